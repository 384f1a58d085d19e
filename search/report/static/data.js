// Reading what the page carries: deflated JSON and columns.

async function inflated(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A column is stored byte plane by byte plane: all lowest bytes, then the next ones.
function unplaned(bytes, [offset, width], count) {
  const out = new Uint8Array(count * width);
  for (let b = 0; b < width; b++)
    for (let i = 0, from = offset + b * count; i < count; i++) out[i * width + b] = bytes[from + i];
  return out;
}

async function loadReport() {
  const bytes = await inflated("columns-data");
  const report = JSON.parse(new TextDecoder().decode(await inflated("facts-data")));
  const n = report.count, raw = (place) => unplaned(bytes, place, n);
  const flags = raw(report.flags);
  report.feasible = flags.map((f) => f & 1);
  report.front = flags.map((f) => f >> 1);
  report.rung = raw(report.rung);
  for (const figure of report.figures) {
    figure.values = new Float32Array(raw(figure.column).buffer);
    figure.number = (i) => figure.values[i];
    figure.text = (i) => shown(figure.values[i]);
  }
  for (const axis of report.axes) {
    const codes = raw(axis.column);
    axis.values = axis.column[1] === 2 ? new Uint16Array(codes.buffer) : codes;
    const numbers = Float64Array.from(axis.numbers, (v) => v ?? NaN);
    axis.number = (i) => numbers[axis.values[i]];
    axis.text = (i) => axis.labels[axis.values[i]];
    axis.varies = axis.values.some((code) => code !== axis.values[0]);
  }
  report.columns = [...report.figures, ...report.axes];
  report.byName = new Map(report.columns.map((column) => [column.name, column]));
  report.detailOf = new Map(report.details.map((detail) => [detail.place, detail]));
  report.commandOf = (i) =>
    [report.command, ...report.axes.filter((a) => a.values[i] !== a.default)
      .map((a) => "--set " + a.words[a.values[i]])].join(" ");
  return report;
}

// A number with five significant digits.
function shown(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 1e4 && Math.abs(value) < 1e9) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(5)));
}

// Smallest and largest finite value among the points of a mask.
function extent(values, mask) {
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const v = values[i];
    if (mask[i] && v - v === 0) {
      if (v < low) low = v;
      if (v > high) high = v;
    }
  }
  return low <= high ? [low, high] : null;
}

// An element; children are nodes or text, and text stays text.
function make(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "line", "path", "circle", "rect", "text", "g", "title"].includes(tag);
  const element = isSvg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  element.append(...children);
  return element;
}
