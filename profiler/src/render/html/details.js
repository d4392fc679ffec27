/* What is known of a chosen wait, or of a chosen frame. */

class Details {
  constructor(box, profile, close) {
    this.box = box;
    this.profile = profile;
    this.close = close;
  }

  hide() {
    this.box.hidden = true;
  }

  /* A wait with both stacks, in the order of the text format: the way of the wake-up. */
  showWait(wait) {
    const { profile } = this;
    const { waits, frames } = profile.data;
    const stacks = element("div", "stacks");
    const line = (text, module) => {
      const made = element("div", "", text);
      if (module) made.append(element("span", "module", `  ${module}`));
      stacks.append(made);
    };
    const frame = (id) => line(`  ${frames.label[id]}`, frames.modules[frames.module[id]]);
    line(`woken by ${profile.waker(wait)}`);
    profile.stack(waits.waker_stack[wait]).reverse().forEach(frame);
    line("  --");
    profile.stack(waits.sleeper_stack[wait]).forEach(frame);
    line(`waited: ${profile.sleeper(wait)}`);
    this.fill(`${profile.sleeper(wait)} ← ${profile.waker(wait)}`, [profile.state(wait)], [wait], stacks);
  }

  /* All waits through a frame of the graph. */
  showFrame(name, waits) {
    this.fill(name, [`${formatCount(waits.length)} kinds of wait`], waits);
  }

  /* Of a diff: each metric before and after. */
  changes(waits) {
    const { values, before, unit } = this.profile;
    const titles = { off: "off-CPU", blocked: "blocked", runqueue: "run queue", count: "waits" };
    return METRICS.map((metric) => {
      const sum = (column) => waits.reduce((total, wait) => total + column[wait], 0);
      const [was, is] = [sum(before[metric]), sum(values[metric])];
      const rate = (value) => formatRate(metric, value, unit);
      return `${titles[metric]} ${rate(was)} → ${rate(is)}, ${formatChange(metric, was, is, unit)}`;
    });
  }

  fill(title, facts, waits, stacks) {
    const { values } = this.profile;
    const sum = (column) => waits.reduce((total, wait) => total + column[wait], 0);
    const count = sum(values.count);
    const off = sum(values.off);
    const max = waits.reduce((longest, wait) => Math.max(longest, values.max[wait]), 0);
    const text = this.profile.isDiff ? [...facts, ...this.changes(waits)] : [
      ...facts,
      `${formatCount(count)} ${count === 1 ? "wait" : "waits"}`,
      `${formatTime(off)} off-CPU`,
      `${formatTime(sum(values.blocked))} blocked`,
      `${formatTime(sum(values.runqueue))} run queue`,
      `mean ${formatTime(off / Math.max(1, count))}`,
      `longest ${formatTime(max)}`,
    ];
    const close = element("button", "close", "Close");
    close.type = "button";
    close.addEventListener("click", this.close);
    this.box.replaceChildren(close, element("h2", "", title), element("p", "", text.join(" · ")));
    if (stacks) this.box.append(stacks);
    this.box.hidden = false;
  }
}
