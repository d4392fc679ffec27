/* How long waits were, by powers of two. */

/* The sums of buckets over waits: `columns` has, for each wait, the number of each bucket that is not empty
   and its count. */
function sumBuckets(columns, waits, buckets) {
  const sums = new Float64Array(buckets);
  for (const wait of waits) {
    const column = columns[wait];
    for (let index = 0; index < column.length; index += 2) sums[column[index]] += column[index + 1];
  }
  return sums;
}

class Histogram {
  /* `begins`: where each bucket begins, in ns. `counts`: of each bucket, of one side or of two to be compared;
     drawn in proportion to `factors`. */
  constructor(begins, counts, factors) {
    this.begins = begins;
    this.counts = counts;
    this.totals = counts.map((side) => side.reduce((total, count) => total + count, 0));
    this.sums = counts.map((side, index) => side.map((count) => count * factors[index]));
  }

  isEmpty() {
    return this.totals.every((total) => total === 0);
  }

  /* So many percent of the waits of a side are not longer than this, in ns (profile/histogram.rs). */
  percentile(side, percent, max) {
    let rest = Math.max(1, Math.ceil(this.totals[side] * percent / 100));
    const bucket = this.counts[side].findIndex((count) => (rest -= count) <= 0);
    return Math.min(max, this.begins[bucket + 1] || Infinity);
  }

  /* The first bucket and the last that have anything, of either side. */
  ends() {
    const some = this.begins.map((_, bucket) => this.counts.some((side) => side[bucket] > 0));
    return [some.indexOf(true), some.lastIndexOf(true)];
  }

  /* The lengths of a bucket. */
  range(bucket) {
    const end = this.begins[bucket + 1];
    if (bucket === 0) return `below ${formatTime(end)}`;
    return end ? `${formatTime(this.begins[bucket])} to ${formatTime(end)}` : `from ${formatTime(this.begins[bucket])}`;
  }

  /* Columns that touch, with the lengths between them. `format` is of a count of a side. */
  draw(format) {
    const chart = element("div", "histogram");
    const [first, last] = this.ends();
    const largest = Math.max(...this.sums.map((sums) => Math.max(...sums)));
    const compares = this.sums.length > 1;
    for (let bucket = first; bucket <= last; bucket++) {
      const column = element("div", "column");
      const bars = element("div", "bars");
      this.sums.forEach((sums, side) => {
        const bar = element("div", compares ? ["bar before", "bar after"][side] : "bar");
        /* No less than what can be seen. */
        bar.style.height = sums[bucket] > 0 ? `max(2px, ${100 * sums[bucket] / largest}%)` : "0";
        if (!compares && sums[bucket] > 0) bar.append(element("span", "", formatShort(sums[bucket])));
        bars.append(bar);
      });
      const told = this.sums.map((sums, side) => (
        `${format(sums[bucket])} (${formatShare(this.counts[side][bucket], this.totals[side])})`));
      column.title = `${this.range(bucket)}: ${told.join(" → ")}`;
      column.append(bars, element("span", "begin", bucket === 0 ? "0" : formatLength(this.begins[bucket])));
      if (bucket === last && this.begins[bucket + 1]) {
        column.append(element("span", "end", formatLength(this.begins[bucket + 1])));
      }
      chart.append(column);
    }
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", [...chart.children].map((column) => column.title).join("; "));
    return chart;
  }
}
