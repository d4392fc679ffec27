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

  /* How long the waits were; of a diff before and after. */
  histogram(waits) {
    const { data, isDiff } = this.profile;
    const sides = isDiff ? [data.before.histogram, data.waits.histogram] : [data.waits.histogram];
    const counts = sides.map((columns) => sumBuckets(columns, waits, data.buckets.length));
    return new Histogram(data.buckets, counts, isDiff ? data.before.factors : [1]);
  }

  /* How many waits there are of each side, and the longest. */
  extent(waits) {
    const { data, isDiff } = this.profile;
    return (isDiff ? [data.before, data.waits] : [data.waits]).map(({ count, max }) => ({
      count: waits.reduce((total, wait) => total + count[wait], 0),
      max: waits.reduce((longest, wait) => Math.max(longest, max[wait]), 0),
    }));
  }

  /* What is known of the lengths between the mean and the longest, if all are known. Below 100 waits the
     99th percentile is the longest. */
  percentiles(histogram, extent) {
    const known = extent.every(({ count }, side) => histogram.totals[side] === count);
    if (!known || extent.every(({ count }) => count < 2)) return [];
    return (extent.every(({ count }) => count < 100) ? [50] : [50, 99]).map((percent) => {
      const ends = extent.map(({ count, max }, side) => (
        count > 0 ? `≤ ${formatTime(histogram.percentile(side, percent, max))}` : "none"));
      return `p${percent} ${ends.join(" → ")}`;
    });
  }

  chart(histogram, extent) {
    const { isDiff, unit } = this.profile;
    const box = element("div");
    const partial = extent.some(({ count }, side) => histogram.totals[side] < count);
    const title = element("p", "chart-title", "Lengths of the waits, from switch-out to switch-in");
    if (isDiff) {
      title.append(" · ", element("span", "before", "■"), " before ", element("span", "after", "■"), " after");
    }
    if (partial) {
      const known = extent.map(({ count }, side) => `${formatCount(histogram.totals[side])} of ${formatCount(count)}`);
      title.append(` (known of ${known.join(" → ")})`);
    }
    box.append(title, histogram.draw((count) => (
      isDiff ? formatRate("count", count, unit) : `${formatCount(count)} ${count === 1 ? "wait" : "waits"}`)));
    return box;
  }

  fill(title, facts, waits, stacks) {
    const { values } = this.profile;
    const sum = (column) => waits.reduce((total, wait) => total + column[wait], 0);
    const count = sum(values.count);
    const off = sum(values.off);
    const histogram = this.histogram(waits);
    const extent = this.extent(waits);
    const percentiles = this.percentiles(histogram, extent);
    const text = this.profile.isDiff ? [...facts, ...this.changes(waits), ...percentiles] : [
      ...facts,
      `${formatCount(count)} ${count === 1 ? "wait" : "waits"}`,
      `${formatTime(off)} off-CPU`,
      `${formatTime(sum(values.blocked))} blocked`,
      `${formatTime(sum(values.runqueue))} run queue`,
      `mean ${formatTime(off / Math.max(1, count))}`,
      ...percentiles,
      `longest ${formatTime(extent[0].max)}`,
    ];
    const close = element("button", "close", "Close");
    close.type = "button";
    close.addEventListener("click", this.close);
    this.box.replaceChildren(close, element("h2", "", title), element("p", "", text.join(" · ")));
    if (!histogram.isEmpty()) this.box.append(this.chart(histogram, extent));
    if (stacks) this.box.append(stacks);
    this.box.hidden = false;
  }
}
