// Parallel coordinates. Between two neighbouring axes every point counts: points with equal ends
// (of 40 steps per figure, all values of an axis) share one line, the darker the more they are.
// So 10^5 points cost as much as a few thousand lines. Above it, some points are drawn whole.

const STEPS = 40;
const WHOLE = 100;

class Parallel {
  constructor(root, report, state) {
    Object.assign(this, { root, report, state, drag: null });
  }

  draw() {
    const { report, state } = this;
    const wanted = state.parallel;
    Object.assign(this, fitted(this.root, wanted.length * 58));
    const { width } = this;
    for (const { canvas } of this.contexts) canvas.style.width = `${width}px`;
    this.top = 64;
    this.bottom = this.height - 26;
    this.axes = wanted.map((column, k) => {
      const domain = extent(column.values, state.base) ?? [0, 1];
      const isLog = !column.labels && isWide(domain);
      const scale = makeScale(column, domain, isLog, this.bottom, this.top);
      return { column, scale, domain, x: 34 + (k * (width - 124)) / Math.max(1, wanted.length - 1), bins: this.binned(column, scale, domain) };
    });
    const [context] = this.contexts;
    for (let k = 0; k + 1 < this.axes.length; k++) this.between(context, this.axes[k], this.axes[k + 1]);
    this.whole(context);
    this.frame(context);
    this.marks();
  }

  // The step of each point on an axis, and where the steps lie.
  binned(column, scale, [low, high]) {
    const key = [low, high, this.bottom].join();
    if (column.binned?.key !== key) column.binned = { key, ...this.bin(column, scale, low, high) };
    return column.binned;
  }

  bin(column, scale, low, high) {
    const { values } = column;
    if (column.labels) {
      const places = Float32Array.from({ length: high - low + 1 }, (_, b) => scale.at(low + b));
      const of = new Uint16Array(values.length);
      for (let i = 0; i < of.length; i++) of[i] = values[i] - low;
      return { of, places };
    }
    const of = new Uint8Array(values.length), height = this.bottom - this.top;
    for (let i = 0; i < of.length; i++) {
      const v = values[i];
      const y = scale.base + scale.gain * (scale.isLog ? Math.log(v) : v);
      of[i] = Math.max(0, Math.min(STEPS - 1, ((this.bottom - y) / height) * STEPS));
    }
    return { of, places: Float32Array.from({ length: STEPS }, (_, b) => this.bottom - ((b + 0.5) / STEPS) * height) };
  }

  between(context, left, right) {
    const { mask } = this.state, a = left.bins.of, b = right.bins.of, across = right.bins.places.length;
    const counts = new Uint32Array(left.bins.places.length * across);
    for (let i = 0; i < a.length; i++) if (mask[i]) counts[a[i] * across + b[i]]++;
    const most = counts.reduce((x, y) => Math.max(x, y), 1), levels = Array.from({ length: 6 }, () => []);
    counts.forEach((count, k) => {
      if (count) levels[Math.min(5, Math.floor(6 * Math.sqrt(count / most)))].push(k);
    });
    context.strokeStyle = theme("--band");
    levels.forEach((lines, level) => {
      context.globalAlpha = 0.07 + 0.13 * level;
      context.beginPath();
      for (const k of lines) {
        context.moveTo(left.x, left.bins.places[Math.floor(k / across)]);
        context.lineTo(right.x, right.bins.places[k % across]);
      }
      context.stroke();
    });
    context.globalAlpha = 1;
  }

  // The shown points of the front as whole lines, evenly thinned.
  whole(context) {
    const { report, state } = this, front = [];
    for (let i = 0; i < report.count; i++) if (state.mask[i] && report.front[i]) front.push(i);
    const step = Math.max(1, front.length / WHOLE);
    context.strokeStyle = theme("--front");
    context.globalAlpha = 0.3;
    for (let k = 0; k < front.length; k += step) this.line(context, front[Math.floor(k)]);
    context.globalAlpha = 1;
    this.drawn = Math.min(front.length, WHOLE);
    this.onFront = front.length;
  }

  line(context, i) {
    context.beginPath();
    for (const axis of this.axes) context.lineTo(axis.x, axis.scale.at(axis.column.values[i]));
    context.stroke();
  }

  frame(context) {
    context.font = "11px system-ui, sans-serif";
    for (const { column, scale, x } of this.axes) {
      context.strokeStyle = theme("--text");
      context.fillStyle = theme("--text");
      context.beginPath();
      context.moveTo(x, this.top); context.lineTo(x, this.bottom);
      for (const [value] of scale.ticks) { context.moveTo(x - 3, scale.at(value)); context.lineTo(x, scale.at(value)); }
      context.stroke();
      context.save();
      context.translate(x - 2, this.top - 10);
      context.rotate(-0.42);
      context.textAlign = "left";
      context.font = `${column.labels ? "" : "600 "}11px system-ui, sans-serif`;
      context.fillText(column.label, 0, 0);
      context.restore();
      for (const [value, label] of scale.ticks) {
        context.globalAlpha = 0.75;
        context.fillStyle = theme("--panel");
        context.fillRect(x + 2, scale.at(value) - 6, context.measureText(label).width + 4, 12);
        context.globalAlpha = 1;
        context.fillStyle = theme("--text");
        context.fillText(label, x + 4, scale.at(value) + 4);
      }
    }
  }

  marks() {
    const context = this.contexts[1], { report, state } = this;
    context.clearRect(0, 0, this.width, this.height);
    for (const axis of this.axes) {
      const range = state.ranges.get(axis.column);
      if (!range) continue;
      const half = axis.column.labels ? 0.5 : 0;
      const top = axis.scale.at(Math.min(range[1], axis.domain[1]) + half);
      const bottom = axis.scale.at(Math.max(range[0], axis.domain[0]) - half);
      context.fillStyle = theme("--veil");
      context.fillRect(axis.x - 9, top, 18, bottom - top);
      context.strokeStyle = theme("--accent");
      context.strokeRect(axis.x - 9, top, 18, bottom - top);
    }
    context.lineWidth = 2.5;
    for (const [i, colour] of [[report.published, "--published"], [report.best, "--best"], [state.selected, "--text"]])
      if (i !== null && i >= 0) { context.strokeStyle = theme(colour); this.line(context, i); }
    context.lineWidth = 1;
  }

  // The axis within 14 pixels of x.
  axisAt(x) {
    return this.axes.find((axis) => Math.abs(axis.x - x) <= 14);
  }

  // The range of values between two heights; whole steps on an axis of the design.
  rangeOf(axis, a, b) {
    const low = axis.scale.back(Math.max(a, b)), high = axis.scale.back(Math.min(a, b));
    return axis.column.labels ? [Math.ceil(low - 0.5), Math.floor(high + 0.5)] : [low, high];
  }
}

function isWide([low, high]) {
  return low > 0 && high / low > 40;
}
