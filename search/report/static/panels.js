// Tables and small drawings beside the two plots.

const TERM_COLOURS = ["--t0", "--t1", "--t2", "--t3", "--t4"];

function table(heads, rows, caption) {
  return make("table", {}, ...(caption ? [make("caption", {}, caption)] : []),
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell, k) =>
      make(k ? "td" : "th", k ? {} : { scope: "row" }, cell instanceof Node ? cell : String(cell)))))));
}

function showDetail(report, i, root, act) {
  const detail = report.detailOf.get(i), published = report.published;
  root.replaceChildren();
  if (i < 0) {
    root.append(make("p", { class: "hint" }, "Click a point in the scatter to see it here."));
    return;
  }
  const kinds = [
    [i === report.best, "best"], [i === published, "published"], [report.front[i], "on the front"],
    [!report.feasible[i], "infeasible"], [report.rung[i] > 0, `evaluated to ${report.rungs[report.rung[i]]}`],
  ].filter(([holds]) => holds).map(([, text]) => make("span", { class: "badge" }, text));
  root.append(make("p", { id: "name" }, detail ? detail.hash.slice(0, 12) : `point ${i + 1}`, " ", ...kinds));
  root.append(commandBox(report.commandOf(i)));
  const change = (figure) => {
    if (published === null || published === i) return "";
    const ratio = figure.values[i] / figure.values[published] - 1;
    return Number.isFinite(ratio) ? `${ratio > 0 ? "+" : ""}${(100 * ratio).toFixed(1)} %` : "";
  };
  const measured = Object.keys(detail?.measured ?? {});
  root.append(table(["figure", report.rungs[0], ...measured, "vs published"], report.figures.map((figure) => [
    figure.label, figure.text(i), ...measured.map((rung) => shown(detail.measured[rung][figure.name] ?? null)), change(figure)])));
  resourceBars(report, i, root);
  const differing = report.axes.filter((axis) => axis.values[i] !== axis.default);
  root.append(make("h3", {}, "Axes that differ from the published point"));
  root.append(differing.length
    ? table(["axis", "published", "here"], differing.map((a) => [make("span", { title: a.summary }, a.label), a.labels[a.default], a.text(i)]))
    : make("p", { class: "hint" }, "None."));
  if (!detail) {
    root.append(make("p", { class: "hint" }, `Budget and roofline are stored for ${report.details.length} points: best, published, `
      + "measured and some of the front. For this one, run the command with --trace or --budget-plot. "),
    make("button", { onclick: () => act(nearestDetail(report, i)) }, "Nearest stored point"));
    return;
  }
  if (detail.note) root.append(make("p", { class: "hint" }, detail.note));
  if (detail.budget.length) latencyBudget(report, detail, root);
  if (detail.roof.length) root.append(make("h3", {}, "Roofline"), roofline(detail));
  if (detail.trace) root.append(traceLink(detail));
  root.append(make("details", {}, make("summary", {}, "Point as TOML"), make("pre", {}, detail.toml)));
}

// The stored point that is nearest in the objectives, each scaled by its extent.
function nearestDetail(report, i) {
  const objectives = report.figures.filter((figure) => figure.sense);
  const spans = objectives.map((o) => { const e = extent(o.values, report.feasible) ?? [0, 1]; return e[1] - e[0] || 1; });
  const distance = (j) => objectives.reduce((sum, o, k) => sum + ((o.values[i] - o.values[j]) / spans[k]) ** 2, 0);
  return report.details.map((d) => d.place).reduce((a, b) => (distance(b) < distance(a) ? b : a));
}

function commandBox(command) {
  const button = make("button", { class: "copy", onclick: async () => {
    try { await navigator.clipboard.writeText(command); } catch { copyByHand(command); }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  } }, "Copy");
  return make("div", { class: "command" }, make("code", { id: "command" }, command), button);
}

function copyByHand(text) {
  const area = make("textarea", {});
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function resourceBars(report, i, root) {
  const limited = report.figures.filter((figure) => figure.available);
  if (!limited.length) return;
  root.append(make("h3", {}, "Resources of the device"));
  for (const figure of limited) {
    const share = figure.values[i] / figure.available;
    const fill = make("div", { class: share > 1 ? "fill over" : "fill" });
    fill.style.width = `${Math.min(100, 100 * share) || 0}%`;
    root.append(make("div", { class: "resource" }, make("span", {}, figure.label), make("div", { class: "track" }, fill),
      make("span", {}, `${shown(figure.values[i])} of ${shown(figure.available)}, ${(100 * share).toFixed(0)} %${share > 1 ? ", over" : ""}`)));
  }
}

function latencyBudget(report, detail, root) {
  root.append(make("h3", {}, "Latency budget"));
  const legend = make("p", { class: "legend" });
  report.terms.forEach((term, k) => legend.append(swatch(theme(TERM_COLOURS[k])), term));
  root.append(legend);
  for (const stage of new Set(detail.budget.map((row) => row.stage))) {
    const rows = detail.budget.filter((row) => row.stage === stage);
    const cycles = (row) => row.terms.reduce((a, b) => a + b, 0);
    const whole = rows.reduce((sum, row) => sum + cycles(row), 0), longest = Math.max(...rows.map(cycles));
    root.append(make("h4", {}, `${stage}: ${shown((1e3 * whole) / detail.clock_hz)} ms, ${whole.toLocaleString("en-US")} cycles`));
    for (const row of rows) {
      const bar = make("div", { class: "track" });
      row.terms.forEach((count, k) => {
        const part = make("div", { class: "fill", title: `${report.terms[k]} ${count.toLocaleString("en-US")} cycles` });
        part.style.width = `${(100 * count) / longest}%`;
        part.style.background = theme(TERM_COLOURS[k]);
        bar.append(part);
      });
      root.append(make("div", { class: "resource", title: `bound by ${row.bound}` }, make("span", {}, row.kernel.replaceAll("_", " ")), bar,
        make("span", {}, `${shown((1e3 * cycles(row)) / detail.clock_hz)} ms · ${row.bound}`)));
    }
  }
}

function swatch(colour) {
  const box = make("i", { class: "swatch" });
  box.style.background = colour;
  return box;
}

function roofline(detail) {
  const [peak, bandwidth] = detail.roof, ridge = peak / bandwidth, [width, height] = [400, 250];
  const intensities = [ridge, ...detail.roofline.map((p) => p[1])], rates = [peak, ...detail.roofline.map((p) => p[2])];
  const column = { values: [] };
  const x = makeScale(column, [Math.min(...intensities) / 3, Math.max(...intensities) * 3], true, 52, width - 10);
  const y = makeScale(column, [Math.min(...rates) / 4, peak * 1.5], true, height - 40, 10);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Roofline of the selected point" });
  for (const [value] of x.ticks.filter(([v]) => decade(v))) {
    svg.append(make("line", { class: "grid", x1: x.at(value), x2: x.at(value), y1: 10, y2: height - 40 }),
      make("text", { x: x.at(value), y: height - 25, "text-anchor": "middle" }, shown(value)));
  }
  for (const [value] of y.ticks.filter(([v]) => decade(v))) {
    svg.append(make("line", { class: "grid", x1: 52, x2: width - 10, y1: y.at(value), y2: y.at(value) }),
      make("text", { x: 48, y: y.at(value) + 4, "text-anchor": "end" }, shown(value / 1e9)));
  }
  const low = x.back(52), corner = Math.max(52, x.at(y.back(height - 40) / bandwidth));
  svg.append(make("path", { class: "roof", d: `M${corner},${y.at(Math.max(low * bandwidth, y.back(height - 40)))}L${x.at(ridge)},${y.at(peak)}H${width - 10}` }),
    make("text", { x: (52 + width) / 2, y: height - 6, "text-anchor": "middle" }, "intensity (operations per byte)"),
    make("text", { x: -(height - 30) / 2, y: 12, transform: "rotate(-90)", "text-anchor": "middle" }, "rate (GOP/s)"));
  const used = [[0, 0, width, 8], [x.at(ridge), y.at(peak) - 2, width, y.at(peak) + 2],
    ...detail.roofline.map((p) => [x.at(p[1]) - 5, y.at(p[2]) - 5, x.at(p[1]) + 5, y.at(p[2]) + 5])];
  for (const [name, intensity, rate, bound] of detail.roofline) {
    const [px, py] = [x.at(intensity), y.at(rate)], isRight = px > width * 0.6;
    const left = isRight ? px - 8 - 5.6 * name.length : px + 8, right = left + 5.6 * name.length;
    const hits = (at) => used.some(([a, b, c, d]) => left < c && right > a && at - 10 < d && at + 2 > b);
    const at = [4, 15, -7, 26, -18, 37, 48].map((step) => py + step).find((place) => !hits(place)) ?? py;
    used.push([left, at - 10, right, at + 2]);
    svg.append(make("circle", { class: bound, cx: px, cy: py, r: 4.5 }, make("title", {}, `${name}: ${shown(intensity)} OP/byte, ${shown(rate / 1e9)} GOP/s, bound by ${bound}`)),
      make("text", { x: px + (isRight ? -8 : 8), y: at, "text-anchor": isRight ? "end" : "start" }, name.replaceAll("_", " ")));
  }
  return svg;
}

// A relative change; what is only rounding in the last bits counts as none.
function percent(change) {
  return Math.abs(change) < 1e-12 ? "0 %" : `${change > 0 ? "+" : ""}${shown(100 * change)} %`;
}

function decade(value) {
  return Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-9;
}

function traceLink(detail) {
  const bytes = Uint8Array.from(atob(detail.trace), (c) => c.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes], { type: "application/gzip" }));
  return make("p", {}, make("a", { id: "trace", href: url, download: `${detail.hash.slice(0, 12)}.trace.json.gz` }, "Perfetto trace"),
    ` (${Math.ceil(bytes.length / 1e3)} kB): every phase; open it in ui.perfetto.dev.`);
}

function showImportance(report, root) {
  root.append(make("p", { class: "hint" }, report.importance_note));
  const most = Math.max(...report.importance.flatMap((one) => Object.values(one.shares)), 1e-9), grid = make("div", { class: "cards" });
  for (const { objective, shares } of report.importance) {
    const card = make("div", {}, make("h3", {}, objective));
    for (const [name, share] of Object.entries(shares).sort((a, b) => b[1] - a[1]).slice(0, 8)) {
      const fill = make("div", { class: "fill" });
      fill.style.width = `${(100 * share) / most}%`;
      card.append(make("div", { class: "resource" }, make("span", {}, report.byName.get(name)?.label ?? name),
        make("div", { class: "track" }, fill), make("span", {}, `${(100 * share).toFixed(1)} %`)));
    }
    grid.append(card);
  }
  root.append(grid);
}

function showChanges(report, root, act) {
  if (!report.changes.length) {
    root.append(make("p", { class: "hint" }, "No point was evaluated on a second rung."));
    return;
  }
  const placeOf = new Map(report.details.map((detail) => [detail.hash, detail.place]));
  const moved = (hash) => placeOf.has(hash)
    ? make("button", { class: "link", onclick: () => act(placeOf.get(hash)) }, hash.slice(0, 12)) : hash.slice(0, 12);
  root.append(make("p", { class: "hint" }, "Kendall's tau compares the order of the points that both rungs evaluated: 1 is the same order, –1 the opposite one."),
    table(["rungs", "objective", "points", "tau", "largest change", "of point", "best stays best"], report.changes.map((c) => [
      `${c.lower} → ${c.upper}`, c.objective, c.points, c.tau === null ? "–" : c.tau.toFixed(3),
      percent(c.largest), moved(c.moved), c.same_best ? "yes" : "no"])));
}
