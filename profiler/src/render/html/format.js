/* Numbers as people read them, as in the other formats (render/human.rs). */

function formatTime(ns) {
  if (ns < 0) return `−${formatTime(-ns)}`;
  if (ns < 1000) return `${Math.round(ns)} ns`;
  if (ns < 999950) return `${(ns / 1e3).toFixed(1)} µs`;
  if (ns < 999995000) return `${(ns / 1e6).toFixed(2)} ms`;
  return `${(ns / 1e9).toFixed(3)} s`;
}

function formatCount(count) {
  if (count < 0) return `−${formatCount(-count)}`;
  return Math.round(count).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

function formatValue(metric, value) {
  return metric === "count" ? formatCount(value) : formatTime(value);
}

/* A length where there is little room. */
function formatLength(ns) {
  const [value, unit] = ns < 1e6 ? [ns / 1e3, "µs"] : ns < 1e9 ? [ns / 1e6, "ms"] : [ns / 1e9, "s"];
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${unit}`;
}

/* A number where there is little room. */
function formatShort(count) {
  const [value, unit] = count < 1e4 ? [count, ""] : count < 1e6 ? [count / 1e3, "k"] : [count / 1e6, "M"];
  return unit && value < 100 ? `${value.toFixed(1)}${unit}` : `${formatCount(value)}${unit}`;
}

/* Rates are small numbers. */
function formatRate(metric, value, unit) {
  const text = metric === "count" && Math.abs(value) < 100 ? value.toFixed(2) : formatValue(metric, value);
  return text + unit;
}

function formatChange(metric, before, after, unit) {
  const percent = before > 0 ? ` (${after < before ? "" : "+"}${(100 * (after / before - 1)).toFixed(1)} %)` : "";
  return `${after > before ? "+" : ""}${formatRate(metric, after - before, unit)}${percent}`;
}

function formatShare(part, whole) {
  return whole > 0 ? `${(100 * part / whole).toFixed(2)} %` : "0 %";
}

/* An element with text, never with markup: names are not to be trusted. */
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
