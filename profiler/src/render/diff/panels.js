/* Two pictures in one. inferno's program knows the elements of one picture by global names, and its functions
   may be replaced: so the names are made those of the picture that an event is in. A search is for both. */
{
  const panels = ["", "gone-"].map((prefix) => ({ prefix }));
  const [there, gone] = panels;
  let active = there;
  const enter = (panel) => {
    active.searching = searching;
    active = panel;
    ({ details, unzoombtn, matchedtxt, frames, svg, total_samples, searching } = panel);
  };
  const of = (element) => (element.closest && element.closest("#gone") ? gone : there);

  const find = (panel) => {
    const id = (name) => document.getElementById(panel.prefix + name);
    panel.details = id("details").firstChild;
    panel.unzoombtn = id("unzoom");
    panel.matchedtxt = id("matched");
    panel.frames = id("frames");
    panel.svg = panel === gone ? document.getElementById("gone") : svg;
    panel.total_samples = parseInt(panel.frames.getAttribute("total_samples"), 10);
    panel.searching = 0;
  };
  /* What inferno does for the first one. */
  const fit = () => {
    const width = svg.width.baseVal.value;
    frames.setAttribute("width", width - xpad * 2);
    matchedtxt.setAttribute("x", width - xpad);
    update_text_for_elements(frames.children);
  };
  const inGone = (work) => {
    enter(gone);
    work();
    enter(there);
  };

  const begin = init;
  init = (event) => {
    begin(event);
    panels.forEach(find);
    gone.svg.removeAttribute("width");
    gone.svg.removeAttribute("viewBox");
    /* Behind what inferno does then. */
    setTimeout(() => inGone(() => {
      unzoom();
      fit();
      const { x, y, s } = get_params();
      const rect = x && y && frames.querySelector(`[*|x="${x}"][y="${y}"]`);
      if (rect) zoom(find_group(rect));
      if (s) search(s);
    }), 0);
    window.addEventListener("resize", () => inGone(fit));
  };
  for (const name of ["click", "mouseover", "mouseout"]) {
    window.addEventListener(name, (event) => enter(of(event.target)), true);
  }
  window.addEventListener("resize", () => enter(there), true);
  window.addEventListener("click", (event) => {
    if (event.target.id !== "gone-unzoom") return;
    unzoom();
    const params = get_params();
    delete params.x;
    delete params.y;
    history.replaceState(null, null, parse_params(params));
  });

  find_group = (node) => {
    for (; node.parentElement; node = node.parentElement) {
      if (panels.some(({ frames }) => frames === node.parentElement)) return node;
    }
    return undefined;
  };
  /* The zoom of each picture is in the address under names of its own. */
  const readAll = get_params;
  const writeAll = parse_params;
  const other = () => (active === there ? gone : there);
  get_params = () => {
    const { s, ...all } = readAll();
    const params = { x: all[`${active.prefix}x`], y: all[`${active.prefix}y`], s };
    for (const name of Object.keys(params)) if (params[name] === undefined) delete params[name];
    return params;
  };
  parse_params = ({ x, y, s }) => {
    const all = readAll();
    const kept = other().prefix;
    const params = { [`${kept}x`]: all[`${kept}x`], [`${kept}y`]: all[`${kept}y`] };
    Object.assign(params, { [`${active.prefix}x`]: x, [`${active.prefix}y`]: y, s });
    for (const name of Object.keys(params)) if (params[name] === undefined) delete params[name];
    return writeAll(params);
  };

  reset_search = () => {
    for (const rect of frames.querySelectorAll("rect")) orig_load(rect, "fill");
    const params = get_params();
    delete params.s;
    history.replaceState(null, null, parse_params(params));
  };
  search_prompt = () => {
    active.searching = searching;
    if (panels.some((panel) => panel.searching)) {
      for (const panel of panels) {
        enter(panel);
        reset_search();
        searching = 0;
        matchedtxt.classList.add("hide");
        matchedtxt.firstChild.nodeValue = "";
      }
      searchbtn.classList.remove("show");
      searchbtn.firstChild.nodeValue = "Search";
    } else {
      const term = prompt("Enter a search term (regexp allowed, eg: ^ext4_)", "");
      for (const panel of term === null ? [] : panels) {
        enter(panel);
        search(term);
      }
    }
    enter(there);
  };
}
