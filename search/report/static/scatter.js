// Scatter of many points: discs blended into an image, marks and hover on a canvas above it.

const MARGIN = { left: 70, right: 18, top: 14, bottom: 48 };
const CELL = 16;

// Size both canvases of a plot for the screen and return their contexts, in CSS pixels.
function fitted(root, least = 200) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.max(root.clientWidth, least), Math.max(root.clientHeight, 120)];
  const contexts = [...root.querySelectorAll("canvas")].map((canvas) => {
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== across || canvas.height !== down) [canvas.width, canvas.height] = [across, down];
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  });
  return { width, height, ratio, contexts };
}

// A colour of the style sheet; asked for often, so remembered until the colour scheme changes.
const themeColours = new Map();
function theme(name) {
  if (!themeColours.has(name))
    themeColours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return themeColours.get(name);
}

function rgb(hex) {
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}

// From values to pixels, with ticks. Axes are drawn by the place of their value.
function makeScale(column, domain, isLog, from, to) {
  if (column.labels) {
    const [low, high] = domain ? [domain[0] - 0.5, domain[1] + 0.5] : [0, 1];
    const step = Math.ceil((high - low) / (Math.abs(to - from) / (from < to ? 54 : 22)));
    const ticks = [];
    for (let c = Math.ceil(low); c < high; c += step) ticks.push([c, column.labels[c]]);
    return linear(low, high, from, to, ticks, false);
  }
  let [low, high] = domain ?? [0, 1];
  isLog = isLog && low > 0;
  if (low === high) [low, high] = isLog ? [low / 2, high * 2] : [low - 1, high + 1];
  const pad = isLog ? (high / low) ** 0.03 : (high - low) * 0.03;
  [low, high] = isLog ? [low / pad, high * pad] : [low - pad, high + pad];
  return linear(low, high, from, to, isLog ? logTicks(low, high) : ticksOf(low, high, Math.abs(to - from) / (from < to ? 90 : 45)), isLog);
}

function linear(low, high, from, to, ticks, isLog) {
  const [a, b] = isLog ? [Math.log(low), Math.log(high)] : [low, high];
  const gain = (to - from) / (b - a), base = from - a * gain;
  return {
    ticks, isLog, gain, base,
    at: (v) => base + gain * (isLog ? Math.log(v) : v),
    back: (pixel) => (isLog ? Math.exp((pixel - base) / gain) : (pixel - base) / gain),
  };
}

function ticksOf(low, high, most = 6) {
  const rough = (high - low) / Math.max(2, most), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((m) => m * power >= rough) * power, ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) ticks.push([k * step, shown(k * step)]);
  return ticks;
}

function logTicks(low, high) {
  const ticks = [], steps = high / low > 1e3 ? [1] : high / low > 20 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
    for (const m of steps) if (m * 10 ** e >= low && m * 10 ** e <= high) ticks.push([m * 10 ** e, shown(m * 10 ** e)]);
  return ticks.length > 1 ? ticks : ticksOf(low, high);
}

class Scatter {
  constructor(root, report, state) {
    Object.assign(this, { root, report, state, hover: -1, box: null });
    this.px = new Float32Array(report.count);
    this.py = new Float32Array(report.count);
    this.next = new Int32Array(report.count);
  }

  draw() {
    const { report, state } = this, size = fitted(this.root);
    Object.assign(this, size);
    this.area = [MARGIN.left, MARGIN.top, size.width - MARGIN.right, size.height - MARGIN.bottom];
    const [left, top, right, bottom] = this.area;
    this.x = makeScale(state.x, extent(state.x.values, state.mask), state.xlog, left, right);
    this.y = makeScale(state.y, extent(state.y.values, state.mask), state.ylog, bottom, top);
    this.locate();
    this.paint(size.contexts[0]);
    this.axes(size.contexts[0]);
    this.stairs(size.contexts[0]);
    this.marks();
  }

  // Pixels of all shown points, and which points lie in which cell.
  locate() {
    const { px, py, state, x, y } = this;
    this.across = Math.ceil(this.width / CELL) + 1;
    this.head = new Int32Array(this.across * (Math.ceil(this.height / CELL) + 1)).fill(-1);
    for (const [pixels, column, scale] of [[px, state.x, x], [py, state.y, y]])
      for (let i = 0; i < pixels.length; i++) {
        const v = column.values[i];
        pixels[i] = scale.base + scale.gain * (scale.isLog ? Math.log(v) : v);
      }
    for (let i = px.length - 1; i >= 0; i--)
      if (state.mask[i] && px[i] - px[i] === 0 && py[i] - py[i] === 0) {
        const cell = (py[i] / CELL | 0) * this.across + (px[i] / CELL | 0);
        this.next[i] = this.head[cell];
        this.head[cell] = i;
      } else px[i] = NaN;
  }

  // Blend a disc per point into an image: fast without a GPU. The fifth disc in the same place
  // would change nothing one can see. The front comes after the rest, measured points last.
  paint(context) {
    const { px, py, ratio, state, report } = this, { palette, colourOf } = state;
    const [left, top, right, bottom] = this.area.map((v) => Math.round(v * ratio));
    const [width, height] = [right - left, bottom - top];
    const image = context.createImageData(width, height), out = image.data;
    new Uint32Array(out.buffer).fill(new Uint32Array(new Uint8Array([...rgb(theme("--panel")), 255]).buffer)[0]);
    const few = state.count < 4000;
    const small = disc((few ? 3.2 : 1.8) * ratio, few ? 0.75 : 0.45);
    const large = disc((few ? 4.2 : 2.8) * ratio, 0.9);
    const hits = new Uint8Array(width * height);
    for (const layer of [0, 1, 2])
      for (let i = 0; i < px.length; i++) {
        if ((report.rung[i] ? 2 : report.front[i]) !== layer || px[i] !== px[i]) continue;
        const cx = Math.round(px[i] * ratio) - left, cy = Math.round(py[i] * ratio) - top;
        if (!layer && hits[cy * width + cx]++ > 3) { hits[cy * width + cx]--; continue; }
        const colour = palette[colourOf(i)], stamp = layer ? large : small;
        for (let s = 0; s < stamp.length; s += 3) {
          const u = cx + stamp[s], v = cy + stamp[s + 1], alpha = stamp[s + 2];
          if (u < 0 || v < 0 || u >= width || v >= height) continue;
          const k = (v * width + u) * 4;
          out[k] += (colour[0] - out[k]) * alpha;
          out[k + 1] += (colour[1] - out[k + 1]) * alpha;
          out[k + 2] += (colour[2] - out[k + 2]) * alpha;
        }
      }
    context.putImageData(image, left, top);
  }

  axes(context) {
    const [left, top, right, bottom] = this.area, { state } = this;
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = theme("--text");
    context.strokeStyle = theme("--grid");
    context.beginPath();
    context.textAlign = "center";
    for (const [value, label] of this.x.ticks) {
      const at = this.x.at(value);
      context.moveTo(at, top); context.lineTo(at, bottom);
      context.fillText(label, at, bottom + 17);
    }
    context.textAlign = "right";
    for (const [value, label] of this.y.ticks) {
      const at = this.y.at(value);
      context.moveTo(left, at); context.lineTo(right, at);
      context.fillText(label, left - 7, at + 4);
    }
    context.stroke();
    context.textAlign = "center";
    context.font = "600 13px system-ui, sans-serif";
    const name = (column) => column.label + ({ min: ", lower is better", max: ", higher is better" }[column.sense] ?? "");
    context.fillText(name(state.x), (left + right) / 2, bottom + 38);
    context.save();
    context.translate(15, (top + bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(name(state.y), 0, 0);
    context.restore();
  }

  // Steps along the points that no shown point beats in both objectives.
  stairs(context) {
    const { px, py, state } = this, [sx, sy] = [state.x.sense, state.y.sense];
    if (!sx || !sy) return;
    const towards = sy === "max" ? 1 : -1, best = new Map();
    for (let i = 0; i < px.length; i++)
      if (px[i] === px[i]) {
        const column = Math.round(px[i]), old = best.get(column);
        if (old === undefined || (py[i] - old) * towards < 0) best.set(column, py[i]);
      }
    const ordered = [...best].sort((a, b) => (sx === "max" ? b[0] - a[0] : a[0] - b[0]));
    let level = null;
    context.beginPath();
    for (const [at, height] of ordered) {
      if (level !== null && (height - level) * towards >= 0) continue;
      if (level === null) context.moveTo(at, height);
      else { context.lineTo(at, level); context.lineTo(at, height); }
      level = height;
    }
    context.strokeStyle = theme("--accent");
    context.lineWidth = 1.2;
    context.stroke();
    context.lineWidth = 1;
  }

  // The canvas on top: published and best point, selection, hover, rectangle.
  marks() {
    const context = this.contexts[1], { report, state } = this;
    context.clearRect(0, 0, this.width, this.height);
    const mark = (i, draw, fill) => {
      const [x, y] = this.place(i), [left, top, right, bottom] = this.area;
      if (!(x >= left && x <= right && y >= top && y <= bottom)) return;
      context.beginPath();
      draw(x, y);
      context.lineWidth = fill ? 1.5 : 2.5;
      context.strokeStyle = theme(fill ? "--panel" : "--text");
      if (fill) { context.fillStyle = fill; context.fill(); }
      context.stroke();
    };
    if (report.best !== null) mark(report.best, (x, y) => polygon(context, x, y, [10, 10, 10, 10]), theme("--best"));
    if (report.published !== null)
      mark(report.published, (x, y) => polygon(context, x, y, [11, 4.6, 11, 4.6, 11, 4.6, 11, 4.6, 11, 4.6]), theme("--published"));
    for (const [i, radius] of [[state.selected, 11], [this.hover, 7]])
      if (i >= 0) mark(i, (x, y) => context.arc(x, y, radius, 0, 7));
    if (this.box) {
      const [a, b, c, d] = this.box;
      context.fillStyle = theme("--veil");
      context.fillRect(a, b, c - a, d - b);
    }
  }

  place(i) {
    return [this.x.at(this.state.x.values[i]), this.y.at(this.state.y.values[i])];
  }

  // The shown point nearest to a pixel, at most 12 away; of equals one on the front.
  nearest(x, y) {
    let found = -1, least = 144;
    for (let row = (y / CELL | 0) - 1; row <= (y / CELL | 0) + 1; row++)
      for (let column = (x / CELL | 0) - 1; column <= (x / CELL | 0) + 1; column++)
        for (let i = this.head[row * this.across + column] ?? -1; i >= 0; i = this.next[i]) {
          const distance = (this.px[i] - x) ** 2 + (this.py[i] - y) ** 2 - this.report.front[i] * 1e-3;
          if (distance < least) [found, least] = [i, distance];
        }
    return found;
  }
}

// Pixels of a disc with soft edge: dx, dy, alpha of each in turn.
function disc(radius, alpha) {
  const pixels = [], reach = Math.ceil(radius);
  for (let dy = -reach; dy <= reach; dy++)
    for (let dx = -reach; dx <= reach; dx++) {
      const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      if (cover) pixels.push(dx, dy, cover * alpha);
    }
  return Float32Array.from(pixels);
}

function polygon(context, x, y, radii) {
  radii.forEach((radius, k) => {
    const angle = (2 * Math.PI * k) / radii.length - Math.PI / 2;
    context.lineTo(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
  });
  context.closePath();
}
