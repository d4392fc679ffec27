/* A list of any length: elements exist for the visible items only. */

/* Browsers do not make elements taller than some millions of pixels. */
const MAX_ITEMS = 500000;

/* Not within the notice itself: what it changes may be noticed again. */
function onResize(box, act) {
  new ResizeObserver(() => requestAnimationFrame(act)).observe(box);
}

class List {
  /* `fill(element, index)` sets the content of an item; `pick(index)` is called for a click. */
  constructor(box, itemHeight, fill, pick) {
    this.box = box;
    this.itemHeight = itemHeight;
    this.fill = fill;
    this.length = 0;
    this.items = [];
    this.spacer = element("div");
    box.classList.add("list");
    box.append(this.spacer);
    box.addEventListener("scroll", () => this.draw());
    box.addEventListener("click", (event) => {
      const item = event.target.closest(".item");
      if (item) pick(Number(item.dataset.index));
    });
    onResize(box, () => this.draw());
  }

  show(length) {
    this.length = Math.min(length, MAX_ITEMS);
    this.spacer.style.height = `${this.length * this.itemHeight}px`;
    this.draw();
  }

  draw() {
    const { box, itemHeight, items } = this;
    const from = Math.max(0, Math.floor(box.scrollTop / itemHeight) - 2);
    const to = Math.min(this.length, Math.ceil((box.scrollTop + box.clientHeight) / itemHeight) + 2);
    for (let index = from; index < to; index++) {
      const at = index - from;
      if (!items[at]) {
        items[at] = element("div");
        box.append(items[at]);
      }
      const item = items[at];
      item.className = "item";
      item.dataset.index = index;
      item.style.top = `${index * itemHeight}px`;
      item.hidden = false;
      this.fill(item, index);
    }
    for (let at = Math.max(0, to - from); at < items.length; at++) items[at].hidden = true;
  }
}

/* The waits: sortable by each column. */
class Table {
  constructor(box, profile, pick) {
    this.profile = profile;
    this.rows = [];
    this.chosen = -1;
    this.column = 0;
    this.descending = true;
    const { values } = profile;
    const waits = profile.data.waits;
    const number = (title, key, format) => ({
      title, className: "number", key: (wait) => values[key][wait], text: (wait) => format(values[key][wait]),
    });
    this.metric = profile.data.metric;
    const compared = (title, key, format) => ({
      title, className: "number", key, text: (wait) => format(key(wait)),
    });
    const rate = (value) => formatRate(this.metric, value, profile.unit);
    const after = (wait) => values[this.metric][wait];
    const before = (wait) => profile.before[this.metric][wait];
    const text = (title, of) => ({ title, className: "", key: of, text: of });
    /* The first are the metrics, in their order. */
    const numbers = profile.isDiff ? [
      compared("change", (wait) => after(wait) - before(wait), (value) => (value > 0 ? `+${rate(value)}` : rate(value))),
      compared("before", before, rate),
      compared("after", after, rate),
    ] : [
      number("off-CPU", "off", formatTime),
      number("blocked", "blocked", formatTime),
      number("run q.", "runqueue", formatTime),
      number("waits", "count", formatCount),
      number("mean", "mean", formatTime),
      number("longest", "max", formatTime),
    ];
    this.columns = [
      ...numbers,
      text("thread", (wait) => profile.sleeper(wait)),
      text("state", (wait) => profile.state(wait)),
      text("woken by", (wait) => profile.waker(wait)),
      text("waits in", (wait) => profile.path(waits.sleeper_stack[wait])),
      text("waker in", (wait) => profile.path(waits.waker_stack[wait])),
    ];
    const wide = element("div");
    if (profile.isDiff) wide.className = "diff";
    const head = element("div", "row head");
    this.buttons = this.columns.map(({ title, className }, index) => {
      const button = element("button", className, title);
      button.type = "button";
      button.addEventListener("click", () => this.sortBy(index));
      head.append(button);
      return button;
    });
    const rows = element("div");
    rows.id = "rows";
    rows.tabIndex = 0;
    wide.append(head, rows);
    box.classList.add("scroll-x");
    box.append(wide);
    const choose = (index) => {
      this.chosen = this.rows[index];
      this.list.draw();
      pick(this.chosen);
    };
    this.list = new List(rows, 22, (item, index) => this.fill(item, this.rows[index]), choose);
    rows.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const at = this.rows.indexOf(this.chosen) + step;
      if (step && at >= 0 && at < this.list.length) {
        event.preventDefault();
        rows.scrollTop = Math.min(rows.scrollTop, at * 22);
        rows.scrollTop = Math.max(rows.scrollTop, (at + 1) * 22 - rows.clientHeight);
        choose(at);
      }
    });
  }

  fill(item, wait) {
    item.classList.add("row");
    item.classList.toggle("chosen", wait === this.chosen);
    this.columns.forEach(({ className, text }, index) => {
      let cell = item.children[index];
      if (!cell) {
        cell = element("span", className);
        item.append(cell);
      }
      cell.textContent = text(wait);
      cell.title = className ? "" : cell.textContent;
    });
  }

  /* By a metric, the largest first. */
  sortByMetric(metric) {
    this.metric = metric;
    this.column = this.profile.isDiff ? 0 : METRICS.indexOf(metric);
    this.bySize = this.profile.isDiff;
    this.descending = true;
  }

  sortBy(column) {
    this.descending = column === this.column ? !this.descending : this.columns[column].className !== "";
    this.column = column;
    this.bySize = false;
    this.show(this.rows);
  }

  show(rows) {
    const { key } = this.columns[this.column];
    /* A diff begins with the largest change, in whichever direction. */
    const keys = new Map(rows.map((wait) => [wait, this.bySize ? Math.abs(key(wait)) : key(wait)]));
    const sign = this.descending ? -1 : 1;
    const compare = (a, b) => (a < b ? -sign : a > b ? sign : 0);
    this.rows = rows.sort((a, b) => compare(keys.get(a), keys.get(b)) || a - b);
    this.buttons.forEach((button, index) => {
      const arrow = this.descending ? " ▼" : " ▲";
      button.textContent = this.columns[index].title + (index === this.column ? arrow : "");
    });
    this.list.box.scrollTop = 0;
    this.list.box.style.height = `${Math.min(rows.length, MAX_ITEMS) * 22 + 2}px`;
    this.list.show(rows.length);
  }
}
