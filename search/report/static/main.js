// State of the page, and what changes it.

const CLASSES = ["infeasible", "feasible", "on the front"];
const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];

const byId = (id) => document.getElementById(id);

async function main() {
  const report = await loadReport();
  const state = firstState(report);
  const scatter = new Scatter(byId("scatter"), report, state);
  const parallel = new Parallel(byId("parallel"), report, state);
  const ranges = makeRanges(report, state, setRange);
  const draw = () => {
    colours(report, state);
    scatter.draw();
    parallel.draw();
    byId("lines").textContent = `Every shown point counts: darker lines carry more of them. ${parallel.drawn} of `
      + `${parallel.onFront} shown points of the front as whole lines. Drag along an axis to filter, click it to stop.`;
  };
  // All changes of one frame are drawn once.
  let pending = false;
  const update = () => {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => { pending = false; filter(report, state); ranges.refresh(); draw(); });
  };
  function setRange(column, range) {
    if (range) state.ranges.set(column, range); else state.ranges.delete(column);
    update();
  }
  const select = (i) => {
    state.selected = i;
    showDetail(report, i, byId("detail"), select);
    scatter.marks();
    parallel.marks();
  };
  makeSelects(report, state, update);
  pointScatter(scatter, report, state, select, setRange);
  pointParallel(parallel, setRange);
  makeFilters(report, state, update);
  for (const id of ["best", "published"]) {
    byId(id).disabled = report[id] === null;
    byId(id).addEventListener("click", () => select(report[id]));
  }
  byId("title").textContent = report.title;
  byId("facts").append(...report.facts.map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, value))));
  showImportance(report, byId("importance"));
  showChanges(report, byId("changes"), select);
  filter(report, state);
  draw();
  select(report.best ?? report.published ?? -1);
  new ResizeObserver(update).observe(byId("chart"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { themeColours.clear(); update(); select(state.selected); });
  // For the console: what is shown, and where a point lies on the screen.
  window.headraceReport = { report, state, scatter, parallel };
  document.body.dataset.ready = "";
}

function firstState(report) {
  const objectives = report.figures.filter((figure) => figure.sense), n = report.count;
  const x = objectives.find((o) => o.available) ?? objectives[1] ?? report.figures[1] ?? report.figures[0];
  return {
    x, y: [...objectives, ...report.figures].find((figure) => figure !== x) ?? x,
    colour: null, xlog: false, ylog: false, test: null, ranges: new Map(), base: new Uint8Array(n), mask: new Uint8Array(n),
    count: 0, selected: -1, palette: [], colourOf: () => 0, parallel: parallelColumns(report, false),
  };
}

// The objectives, then the axes that vary: all, or the ten that matter most to an objective.
function parallelColumns(report, all) {
  const most = (axis) => Math.max(0, ...report.importance.map((one) => one.shares[axis.name] ?? 0));
  const varying = report.axes.filter((axis) => axis.varies);
  const chosen = all ? varying : [...varying].sort((a, b) => most(b) - most(a)).slice(0, 10);
  return [...report.figures.filter((figure) => figure.sense), ...varying.filter((axis) => chosen.includes(axis))];
}

// Which points are shown: `base` by the switches, `mask` by everything.
function filter(report, state) {
  const onlyFeasible = byId("feasible").checked, onlyFront = byId("front").checked;
  const { base, mask, test } = state, n = report.count;
  for (let i = 0; i < n; i++) base[i] = (!onlyFeasible || report.feasible[i]) && (!onlyFront || report.front[i]);
  mask.set(base);
  for (const [{ values }, [low, high]] of state.ranges)
    for (let i = 0; i < n; i++) if (!(values[i] >= low && values[i] <= high)) mask[i] = 0;
  if (test) for (let i = 0; i < n; i++) if (mask[i] && !test(i)) mask[i] = 0;
  state.count = mask.reduce((sum, one) => sum + one, 0);
  byId("count").textContent = `${state.count.toLocaleString("en-US")} of ${n.toLocaleString("en-US")} points shown`;
}

// Palette, colour of each point, and the legend: by kind of point or along a column.
function colours(report, state) {
  const legend = byId("legend"), { colour } = state;
  if (!colour) {
    const names = [...CLASSES, ...report.rungs.slice(1)];
    const hexes = ["--infeasible", "--feasible", "--front", "--rung1", "--rung2"].map(theme);
    state.palette = hexes.map(rgb);
    state.colourOf = (i) => (report.rung[i] ? 2 + Math.min(2, report.rung[i]) : report.front[i] ? 2 : report.feasible[i]);
    legend.replaceChildren(...names.slice(0, 5).flatMap((name, k) => [swatch(hexes[k]), name]),
      swatch(theme("--published")), "published ★", swatch(theme("--best")), "best ◆");
    return;
  }
  const [low, high] = extent(colour.values, state.mask) ?? [0, 1], gain = 255 / (high - low || 1);
  state.palette = Array.from({ length: 256 }, (_, k) => {
    const place = (k / 255) * (VIRIDIS.length - 1), at = Math.min(VIRIDIS.length - 2, Math.floor(place));
    const [a, b] = [rgb(VIRIDIS[at]), rgb(VIRIDIS[at + 1])];
    return a.map((v, c) => v + (b[c] - v) * (place - at));
  });
  state.colourOf = (i) => Math.max(0, Math.min(255, Math.round((colour.values[i] - low) * gain))) || 0;
  const ramp = make("i", { class: "ramp" }), name = (v) => (colour.labels ? colour.labels[v] : shown(v));
  ramp.style.background = `linear-gradient(90deg, ${VIRIDIS.join()})`;
  legend.replaceChildren(name(low), ramp, name(high));
}

function makeFilters(report, state, update) {
  const box = byId("constraint"), fault = byId("fault"), first = report.figures[0];
  byId("feasible").checked = report.feasible.some((one) => one);
  for (const id of ["feasible", "front"]) byId(id).addEventListener("change", update);
  byId("all").addEventListener("change", () => { state.parallel = parallelColumns(report, byId("all").checked); update(); });
  if (first) box.placeholder = `such as ${first.name} <= ${shown(first.values[report.published ?? 0])}`;
  box.title = `Names: ${[...report.byName.keys()].join(", ")}`;
  box.addEventListener("input", () => {
    try {
      state.test = box.value.trim() ? parseConstraint(box.value, report.byName) : null;
      fault.hidden = true;
      update();
    } catch (error) {
      fault.textContent = error.message;
      fault.hidden = false;
    }
  });
  byId("reset").addEventListener("click", () => {
    state.ranges.clear();
    state.test = null;
    box.value = "";
    fault.hidden = true;
    byId("feasible").checked = report.feasible.some((one) => one);
    byId("front").checked = false;
    update();
  });
}

function makeSelects(report, state, update) {
  const options = (list) => list.map((column) => make("option", { value: column.name }, column.label));
  for (const key of ["x", "y", "colour"]) {
    const menu = byId(key);
    if (key === "colour") menu.append(make("option", { value: "" }, "kind of point"));
    menu.append(make("optgroup", { label: "figures" }, ...options(report.figures)), make("optgroup", { label: "axes" }, ...options(report.axes)));
    menu.value = state[key]?.name ?? "";
    menu.addEventListener("change", () => {
      state[key] = report.byName.get(menu.value) ?? null;
      if (key !== "colour") suggestLog(key);
      update();
    });
  }
  function suggestLog(key) {
    const box = byId(`${key}log`), domain = extent(state[key].values, report.feasible);
    box.disabled = Boolean(state[key].labels);
    box.checked = state[`${key}log`] = Boolean(!state[key].labels && domain && isWide(domain));
  }
  for (const key of ["x", "y"]) {
    suggestLog(key);
    byId(`${key}log`).addEventListener("change", (event) => { state[`${key}log`] = event.target.checked; update(); });
  }
}

// Rows of two inputs per column: numbers for figures, menus of values for axes.
function makeRanges(report, state, setRange) {
  const rows = report.columns.filter((column) => !column.labels || column.varies).map((column) => {
    const inputs = [0, 1].map((side) => {
      const what = `${side ? "greatest" : "smallest"} ${column.label}`;
      return column.labels
        ? make("select", { "aria-label": what }, make("option", { value: "" }, "any"), ...column.labels.map((label, k) => make("option", { value: k }, label)))
        : make("input", { type: "number", step: "any", "aria-label": what, placeholder: side ? "max" : "min" });
    });
    for (const input of inputs)
      input.addEventListener("change", () => {
        const [low, high] = inputs.map((one) => (one.value === "" ? null : Number(one.value)));
        setRange(column, low === null && high === null ? null : [low ?? -Infinity, high ?? Infinity]);
      });
    byId("ranges").lastElementChild.append(make("div", { class: "range", "data-name": column.name }, make("span", { title: column.name }, column.label), ...inputs));
    return [column, inputs];
  });
  return {
    refresh() {
      for (const [column, inputs] of rows)
        inputs.forEach((input, side) => {
          const bound = state.ranges.get(column)?.[side];
          const text = bound === undefined || !Number.isFinite(bound) ? "" : String(bound);
          if (input.value !== text && document.activeElement !== input) input.value = text;
        });
    },
  };
}

function at(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function pointScatter(scatter, report, state, select, setRange) {
  const canvas = scatter.root.querySelectorAll("canvas")[1], tip = byId("tip");
  let start = null;
  function hover(i, [x, y] = [0, 0]) {
    if (i !== scatter.hover || scatter.box) { scatter.hover = i; scatter.marks(); }
    tip.hidden = i < 0;
    if (i < 0) return;
    const columns = new Set([state.x, state.y, ...(state.colour ? [state.colour] : []), ...report.figures.filter((f) => f.sense)]);
    tip.replaceChildren(...[...columns].map((c) => make("div", {}, make("span", {}, c.label), make("b", {}, c.text(i)))));
    tip.style.left = `${Math.min(x + 14, scatter.width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${Math.min(y + 14, scatter.height - tip.offsetHeight - 4)}px`;
  }
  canvas.addEventListener("pointerdown", (event) => { start = at(event); canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    const place = at(event);
    const drags = start && Math.hypot(place[0] - start[0], place[1] - start[1]) > 5;
    if (drags) scatter.box = [...start, ...place];
    hover(drags ? -1 : scatter.nearest(...place), place);
  });
  canvas.addEventListener("pointerup", (event) => {
    const place = at(event), box = scatter.box;
    start = scatter.box = null;
    if (!box) { select(scatter.nearest(...place)); return; }
    for (const [column, scale, a, b] of [[state.x, scatter.x, box[0], box[2]], [state.y, scatter.y, box[1], box[3]]]) {
      const [low, high] = [scale.back(a), scale.back(b)].sort((p, q) => p - q);
      setRange(column, column.labels ? [Math.ceil(low), Math.floor(high)] : [low, high]);
    }
  });
  canvas.addEventListener("pointercancel", () => { start = scatter.box = null; scatter.marks(); });
  canvas.addEventListener("pointerleave", () => { if (!start) hover(-1); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") select(-1);
    if (!step) return;
    event.preventDefault();
    select(neighbour(report, state, step));
  });
}

// The next point to the right (1) or left (-1) of the selected one: of the front if any is shown.
function neighbour(report, state, step) {
  const { values } = state.x, { selected, mask } = state, onFront = mask.some((one, i) => one && report.front[i]);
  const before = (i, j) => step * (values[i] - values[j] || i - j) < 0;
  let found = -1;
  for (let i = 0; i < mask.length; i++) {
    if (!mask[i] || (onFront && !report.front[i]) || Number.isNaN(values[i])) continue;
    if (selected >= 0 && (i === selected || before(i, selected))) continue;
    if (found < 0 || before(i, found)) found = i;
  }
  return found < 0 ? selected : found;
}

function pointParallel(parallel, setRange) {
  const canvas = parallel.root.querySelectorAll("canvas")[1];
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    const [x, y] = at(event), axis = parallel.axisAt(x);
    if (!axis) return;
    drag = { axis, from: y };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    canvas.style.cursor = parallel.axisAt(x) ? "ns-resize" : "default";
    if (drag && Math.abs(y - drag.from) > 4) { drag.moved = true; setRange(drag.axis.column, parallel.rangeOf(drag.axis, drag.from, y)); }
  });
  canvas.addEventListener("pointerup", () => {
    if (drag && !drag.moved) setRange(drag.axis.column, null);
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
}

main();
