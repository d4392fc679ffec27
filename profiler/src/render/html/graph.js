/* The flame graph on a canvas as large as what is visible of it: neither the number of frames nor
   the depth of stacks makes it slow. */

const ROW = 18;
/* Narrower frames are not drawn, in pixels. */
const MIN_WIDTH = 0.4;
/* No more darker than this (render/colors.rs). */
const VARIATION = 18;
const FOUND = "#e64bd0";

class Graph {
  constructor(box, palette, hover, pick) {
    this.box = box;
    this.palette = palette;
    this.hover = hover;
    this.zoom = 0;
    this.rows = [];
    this.colors = new Map();
    this.canvas = element("canvas");
    this.spacer = element("div", "spacer");
    box.append(this.canvas, this.spacer);
    box.addEventListener("scroll", () => this.draw());
    onResize(box, () => { if (this.tree) this.layout(); });
    this.canvas.addEventListener("mousemove", (event) => hover(this.at(event)));
    this.canvas.addEventListener("mouseleave", () => hover(-1));
    this.canvas.addEventListener("click", (event) => {
      const node = this.at(event);
      if (node >= 0) pick(node);
    });
  }

  /* `found`: the test of a search, or null. `marked`: for each node of a chosen path 1, or null. */
  /* `change`: of a diff, for each node from -1 (shorter) to 1 (longer), or null. */
  show(tree, sums, found, marked, change) {
    this.change = change;
    if (tree !== this.tree) this.zoom = 0;
    const { name } = tree.symbols;
    this.tree = tree;
    this.sums = sums;
    this.marked = marked;
    this.found = Uint8Array.from(name, (text) => (found && found(text) ? 1 : 0));
    this.layout();
  }

  zoomTo(node) {
    this.zoom = node;
    this.layout();
    this.box.scrollTop = this.box.scrollHeight;
  }

  /* Which frames are where: for each row, from the bottom, what is drawn in it. */
  layout() {
    const { tree, sums, box } = this;
    const width = box.clientWidth;
    const rows = [];
    const push = (row, node, x, w) => {
      if (!rows[row]) rows[row] = [];
      rows[row].push({ node, x, w });
    };
    const path = [];
    for (let node = this.zoom; node !== 0; node = tree.parent[node]) path.push(tree.parent[node]);
    path.reverse().forEach((node, row) => push(row, node, 0, width));
    this.zoomRow = path.length;
    const scale = sums[this.zoom] > 0 ? width / sums[this.zoom] : 0;
    const work = scale > 0 || this.zoom !== 0 ? [[this.zoom, 0, path.length]] : [];
    this.drawn = 0;
    while (work.length > 0) {
      const [node, x, row] = work.pop();
      push(row, node, x, node === this.zoom ? width : sums[node] * scale);
      this.drawn++;
      let left = x;
      for (let index = tree.first[node]; index < tree.first[node + 1]; index++) {
        const child = tree.children[index];
        const w = sums[child] * scale;
        if (w >= MIN_WIDTH) work.push([child, left, row + 1]);
        left += w;
      }
    }
    /* No higher than what there is to see, except while a part of it is. */
    if (this.zoom === 0) box.style.height = `${Math.max(rows.length, 6) * ROW + 2}px`;
    const atBottom = this.rows.length === 0 || box.scrollTop + box.clientHeight >= box.scrollHeight - 2;
    this.rows = rows;
    this.height = Math.max(rows.length * ROW, box.clientHeight);
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(box.clientHeight * ratio));
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${box.clientHeight}px`;
    this.spacer.style.height = `${this.height - box.clientHeight}px`;
    if (atBottom) box.scrollTop = box.scrollHeight;
    this.draw();
  }

  draw() {
    const { box, rows, tree } = this;
    if (!tree) return;
    const context = this.canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, box.clientWidth, box.clientHeight);
    context.font = "12px ui-monospace, monospace";
    context.textBaseline = "middle";
    const char = context.measureText("m").width;
    const low = this.row(box.clientHeight);
    const high = this.row(0);
    for (let row = Math.max(0, low); row <= Math.min(rows.length - 1, high); row++) {
      const y = this.height - (row + 1) * ROW - box.scrollTop;
      for (const { node, x, w } of rows[row]) {
        const gap = w > 3 ? 1 : 0;
        context.globalAlpha = row < this.zoomRow ? 0.6 : 1;
        context.fillStyle = this.found[tree.symbol[node]] ? FOUND : this.change ? changeColor(this.change(node)) : this.color(tree.symbol[node]);
        context.fillRect(x, y, w - gap, ROW - 1);
        if (this.marked && this.marked[node]) {
          context.strokeStyle = "#000";
          context.lineWidth = 1.5;
          context.strokeRect(x + 0.75, y + 0.75, Math.max(0, w - gap - 1.5), ROW - 2.5);
        }
        const chars = Math.floor((w - 6) / char);
        if (chars >= 2) {
          const name = tree.name(node);
          context.fillStyle = "#000";
          context.fillText(name.length <= chars ? name : `${name.slice(0, chars - 1)}…`, x + 3, y + ROW / 2);
        }
      }
    }
    context.globalAlpha = 1;
    if (this.drawn === 0) {
      context.fillStyle = "#808080";
      context.fillText("No waits: nothing of this metric is left by the filters.", 12, 24);
    }
  }

  /* The row at this distance from the top of what is visible. */
  row(y) {
    return Math.ceil((this.height - this.box.scrollTop - y) / ROW) - 1;
  }

  /* The frame under the mouse, or -1. */
  at(event) {
    const row = this.rows[this.row(event.offsetY)] || [];
    const found = row.find(({ x, w }) => event.offsetX >= x && event.offsetX < x + w);
    return found ? found.node : -1;
  }

  /* The colour of the role, in a shade of the name (FNV-1a). */
  color(symbol) {
    let color = this.colors.get(symbol);
    if (color === undefined || this.colorsOf !== this.tree) {
      if (this.colorsOf !== this.tree) this.colors.clear();
      this.colorsOf = this.tree;
      const { name, role } = this.tree.symbols;
      let hash = 0x811c9dc5;
      for (let index = 0; index < name[symbol].length; index++) {
        hash = Math.imul(hash ^ name[symbol].charCodeAt(index), 0x01000193);
      }
      const shade = (hash >>> 0) % VARIATION;
      color = `rgb(${this.palette[role[symbol]].map((part) => part - shade).join(",")})`;
      this.colors.set(symbol, color);
    }
    return color;
  }
}

/* Red got longer, blue got shorter, white is as it was. */
function changeColor(change) {
  const rest = Math.round(245 - 145 * Math.min(1, Math.abs(change)));
  return change > 0 ? `rgb(245,${rest},${rest})` : `rgb(${rest},${rest},245)`;
}
