/* The page: what is chosen, and everything that follows from it. */

class Report {
  constructor(data) {
    const id = (name) => document.getElementById(name);
    this.profile = new Profile(data);
    this.perThread = data.per_thread;
    this.metric = data.metric;
    this.query = "";
    this.chosen = null;
    /* Whether the frame of everything was chosen: it is not zoomed to. */
    this.ofAll = false;
    this.elements = {
      search: id("search"), metric: id("metric"), perThread: id("per-thread"),
      matched: id("matched"), hover: id("hover"), tableTitle: id("table-title"),
    };
    this.graph = new Graph(id("graph"), data.palette, (node) => this.hover(node), (node) => this.pickFrame(node));
    this.table = new Table(id("table"), this.profile, (wait) => this.pickWait(wait));
    this.details = new Details(id("details"), this.profile, () => this.unpick());
    this.head(data, id);
    this.lists = this.profile.splits.map((split) => this.makeSplit(split, id("splits")));
    this.listen(id("reset"));
    this.base = "after";
    id("colors").hidden = !this.profile.isDiff;
    id("base").hidden = !this.profile.isDiff;
    id("base").addEventListener("change", (event) => { this.base = event.target.value; this.update(); });
    /* Threads of different runs have their names in common only. */
    this.elements.perThread.parentElement.hidden = this.profile.isDiff;
    this.readFragment();
    this.rebuild();
    this.pickLinked();
  }

  format(value) {
    return this.profile.isDiff ? formatRate(this.metric, value, this.profile.unit) : formatValue(this.metric, value);
  }

  head(data, id) {
    document.title = `${data.title} · offwake`;
    id("title").textContent = data.title;
    const sum = (values) => values.reduce((total, value) => total + value, 0);
    const { values } = this.profile;
    const facts = data.facts.map(([name, value]) => `${name} ${value}`);
    if (data.started > 0) {
      facts.unshift(`${new Date(data.started * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`);
    }
    if (this.profile.isDiff) facts.push(...this.details.changes([...values.off.keys()]));
    else facts.push(
      `${formatCount(sum(values.count))} waits`,
      `${formatTime(sum(values.off))} off-CPU`,
      `${formatTime(sum(values.blocked))} blocked`,
      `${formatTime(sum(values.runqueue))} run queue`,
    );
    id("facts").textContent = facts.join(" · ");
    const losses = [["lost", true], ["incomplete", false]].map(([title, wanted]) => {
      const some = data.losses.filter(([, count, lost]) => lost === wanted && count > 0);
      const causes = some.map(([name, count]) => `${name} ${formatCount(count)}`).join(", ");
      return `${title} ${formatCount(sum(some.map(([, count]) => count)))}${causes && ` (${causes})`}`;
    });
    /* A diff has those of each side among its facts. */
    id("losses").hidden = this.profile.isDiff;
    id("losses").textContent = losses.join(", ");
    id("losses").classList.toggle("some", data.losses.some(([, count]) => count > 0));
    id("losses").title = data.losses.map(([name, count]) => `${name} ${count}`).join("\n");
  }

  makeSplit(split, parent) {
    const box = element("div", "split");
    const entries = [];
    const list = new List(box, 20, (item, index) => {
      const { group, value, share } = entries[index];
      if (item.children.length === 0) item.append(element("span", "bar"), element("span", "name"), element("span"));
      const [bar, name, number] = item.children;
      bar.style.width = `${share * 100}%`;
      name.textContent = split.names[group];
      name.title = split.names[group];
      number.textContent = this.profile.isDiff && value > 0 ? `+${this.format(value)}` : this.format(value);
      bar.classList.toggle("longer", this.profile.isDiff && value > 0);
      item.classList.toggle("chosen", split.chosen.has(group));
    }, (index) => {
      const { group } = entries[index];
      if (!split.chosen.delete(group)) split.chosen.add(group);
      this.update();
    });
    parent.append(element("h2", "", split.title), box);
    /* What each group has, of the waits that the other splits show. */
    return (shown, values, before) => {
      const sums = new Float64Array(split.names.length);
      const there = new Uint8Array(split.names.length);
      for (let wait = 0; wait < values.length; wait++) {
        if (!shown[wait]) continue;
        sums[split.of[wait]] += values[wait] - (before ? before[wait] : 0);
        if (values[wait] > 0 || (before && before[wait] > 0)) there[split.of[wait]] = 1;
      }
      const max = sums.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
      entries.length = 0;
      sums.forEach((value, group) => {
        if (there[group] || split.chosen.has(group)) entries.push({ group, value, share: Math.abs(value) / max });
      });
      entries.sort((a, b) => b.share - a.share || a.group - b.group);
      box.style.height = `${Math.min(entries.length, 10) * 20 + 2}px`;
      list.show(entries.length);
    };
  }

  listen(reset) {
    const { search, metric, perThread } = this.elements;
    let timer = 0;
    search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => { this.query = search.value; this.update(); }, 150);
    });
    metric.addEventListener("change", () => {
      this.metric = metric.value;
      this.table.sortByMetric(this.metric);
      this.update();
    });
    perThread.addEventListener("change", () => { this.perThread = perThread.checked; this.rebuild(); });
    reset.addEventListener("click", () => {
      for (const split of this.profile.splits) split.chosen.clear();
      this.query = "";
      this.graph.zoom = 0;
      this.unpick();
    });
    window.addEventListener("hashchange", () => { this.readFragment(); this.update(); this.pickLinked(); });
    document.addEventListener("keydown", (event) => {
      const typing = event.target === search;
      if (event.key === "/" && !typing) {
        event.preventDefault();
        search.focus();
      } else if (event.key === "Escape" && !typing) {
        this.graph.zoom = 0;
        this.unpick();
      }
    });
  }

  /* `#q=SEARCH&metric=METRIC&zoom=FRAME&wait=WAIT`: a link to what is shown, by numbers in this file. */
  readFragment() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    this.query = wanted.get("q") || "";
    if (METRICS.includes(wanted.get("metric"))) this.metric = wanted.get("metric");
    this.table.sortByMetric(this.metric);
    const number = (name) => Number.parseInt(wanted.get(name), 10);
    this.linked = { zoom: number("zoom"), wait: number("wait") };
  }

  pickLinked() {
    const { zoom, wait } = this.linked;
    if (zoom >= 0 && zoom < this.tree.length) this.pickFrame(zoom);
    if (wait >= 0 && wait < this.profile.length) this.pickWait(wait);
  }

  writeFragment() {
    const fragment = new URLSearchParams();
    if (this.query) fragment.set("q", this.query);
    if (this.metric !== this.profile.data.metric) fragment.set("metric", this.metric);
    /* Threads apart or not: each has other frames. */
    const ofFrame = this.graph.zoom > 0 || this.ofAll;
    if (ofFrame && this.perThread === this.profile.data.per_thread) fragment.set("zoom", this.graph.zoom);
    if (this.chosen !== null) fragment.set("wait", this.chosen);
    const text = fragment.toString();
    /* Some browsers do not allow it for files. Then the address stays. */
    try { history.replaceState(null, "", text ? `#${text}` : location.pathname); } catch { /* as it was */ }
  }

  rebuild() {
    this.tree = new Tree(this.profile, this.perThread, this.profile.data.delimited);
    this.graph.zoom = 0;
    this.unpick();
  }

  /* Everything that depends on metric, search, filters and choice. */
  update() {
    const { profile, tree, elements } = this;
    elements.search.value = this.query;
    elements.metric.value = this.metric;
    elements.perThread.checked = this.perThread;
    const after = profile.values[this.metric];
    const before = profile.isDiff ? profile.before[this.metric] : null;
    const values = before && this.base === "before" ? before : after;
    const allowed = profile.splits.map((split) => (
      Uint8Array.from(split.of, (group) => (split.chosen.size === 0 || split.chosen.has(group) ? 1 : 0))));
    const both = (masks) => Uint8Array.from(allowed[0], (_, wait) => (masks.every((mask) => mask[wait]) ? 1 : 0));
    this.lists.forEach((show, index) => show(both(allowed.filter((_, other) => other !== index)), after, before));
    this.shown = both(allowed);

    let found = null;
    elements.search.classList.remove("wrong");
    try { found = parseQuery(this.query); } catch { elements.search.classList.add("wrong"); }
    const matches = found ? profile.search(found) : this.shown;
    /* The table follows the zoom, too. */
    const within = this.graph.zoom === 0 ? null : tree.waitsThrough(this.graph.zoom);
    const rows = [];
    let total = 0;
    let matched = 0;
    for (let wait = 0; wait < profile.length; wait++) {
      if (!this.shown[wait]) continue;
      total += values[wait];
      if (!matches[wait]) continue;
      matched += values[wait];
      if (!within || within[wait]) rows.push(wait);
    }
    this.sums = tree.sums(values, this.shown);
    this.after = before && tree.sums(after, this.shown);
    this.before = before && tree.sums(before, this.shown);
    const change = before && ((node) => {
      const [was, is] = [this.before[node], this.after[node]];
      return was === is ? 0 : (is - was) / Math.max(was, is);
    });
    elements.matched.textContent = found
      ? `matched: ${this.format(matched)}, ${formatShare(matched, total)}` : "";
    elements.tableTitle.textContent = `${formatCount(rows.length)} of ${formatCount(profile.length)} kinds of wait`
      + (rows.length > MAX_ITEMS ? `, of which the first ${formatCount(MAX_ITEMS)} are listed` : "");
    this.graph.show(tree, this.sums, found, this.marked(), change);
    this.table.show(rows);
    this.writeFragment();
    this.total = total;
    /* For tests. */
    document.documentElement.dataset.ready = JSON.stringify({
      waits: profile.length, rows: rows.length, nodes: tree.length, frames: this.graph.drawn, total, matched,
    });
  }

  /* The nodes of the chosen wait's stack. */
  marked() {
    if (this.chosen === null) return null;
    const marked = new Uint8Array(this.tree.length);
    for (let node = this.tree.leaf[this.chosen]; node !== 0; node = this.tree.parent[node]) marked[node] = 1;
    return marked;
  }

  pickWait(wait) {
    this.chosen = wait;
    this.details.showWait(wait);
    this.graph.marked = this.marked();
    this.graph.draw();
    this.writeFragment();
  }

  pickFrame(node) {
    this.graph.zoomTo(node);
    this.unpick();
    this.ofAll = node === 0;
    this.writeFragment();
    const through = this.tree.waitsThrough(node);
    const waits = [];
    through.forEach((inside, wait) => { if (inside && this.shown[wait]) waits.push(wait); });
    if (waits.length === 1) this.details.showWait(waits[0]);
    else this.details.showFrame(this.tree.name(node), waits);
  }

  unpick() {
    this.chosen = null;
    this.ofAll = false;
    this.table.chosen = -1;
    this.details.hide();
    this.update();
  }

  hoverChange(node) {
    if (!this.profile.isDiff) return "";
    const [was, is] = [this.before[node], this.after[node]];
    return `; before ${this.format(was)}, after ${this.format(is)}: ${formatChange(this.metric, was, is, this.profile.unit)}`;
  }

  hover(node) {
    const value = node < 0 ? "" : this.sums[node];
    this.elements.hover.textContent = node < 0 ? "\u00a0"
      : `${this.tree.name(node)}: ${this.format(value)}, ${formatShare(value, this.total)}${this.hoverChange(node)}`;
  }
}

window.addEventListener("error", (event) => {
  if (!event.error) return;
  document.documentElement.dataset.error = event.message;
  const message = element("p", "", `This report cannot be shown: ${event.message}`);
  message.id = "error";
  document.body.prepend(message);
});
new Report(JSON.parse(document.getElementById("profile").textContent));
