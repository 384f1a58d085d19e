"""Print how large a report of 10^5 points is and how fast it answers, in headless Chromium.

Run `.venv/bin/python bench/report.py [--points N] [--repeats N] [--json]`.

Points are drawn at random from TeLLMe's space on the KV260; all of them are shown, feasible or
not, which is the worst case. Every time is from the event to the second frame after it, when the
change is on the screen. There is no GPU: Chromium draws in software.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

# In the page: the time from an action to the second frame after it.
TIMED = """async ([action, k]) => {
  const frame = () => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
  const { report, state, scatter, parallel } = headraceReport;
  const canvas = document.querySelectorAll("#scatter canvas")[1];
  const lines = document.querySelectorAll("#parallel canvas")[1];
  const fire = (target, type, x, y) => {
    const box = target.getBoundingClientRect();
    target.dispatchEvent(new PointerEvent(type,
      { clientX: box.left + x, clientY: box.top + y, bubbles: true, pointerId: 1 }));
  };
  const set = (id, value, type) => {
    const element = document.getElementById(id);
    element.value = value;
    element.dispatchEvent(new Event(type));
  };
  canvas.setPointerCapture = lines.setPointerCapture = () => {};
  let point = (k * 4999) % report.count;
  while (scatter.place(point).some((v) => !Number.isFinite(v))) point = (point + 1) % report.count;
  const place = scatter.place(point);
  const axis = parallel.axes[k % parallel.axes.length];
  const actions = {
    hover: () => fire(canvas, "pointermove", ...place),
    select: () => { fire(canvas, "pointerdown", ...place); fire(canvas, "pointerup", ...place); },
    toggle: () => document.getElementById("feasible").click(),
    constraint: () => set("constraint", `lut <= ${300000 + 5000 * k} and power_w < 9`, "input"),
    "axis change": () => set("x", report.columns[k % report.columns.length].name, "change"),
    "colour change": () => set("colour", report.columns[k % report.columns.length].name, "change"),
    brush: () => {
      fire(lines, "pointerdown", axis.x, parallel.top);
      fire(lines, "pointermove", axis.x, parallel.bottom - 10 * k);
      fire(lines, "pointerup", axis.x, parallel.bottom - 10 * k);
    },
  };
  const start = performance.now();
  actions[action]();
  await frame();
  return performance.now() - start;
}"""
ACTIONS = ("hover", "select", "toggle", "constraint", "axis change", "colour change", "brush")


def write(points: int, path: Path) -> None:
    """Write a report of random points, with their front."""
    from headrace.models.network import load_network
    from headrace.search.ladder import nearest
    from headrace.search.pareto import pareto_front
    from headrace.search.problem import Problem, network_hash
    from headrace.search.report.build import build
    from headrace.search.report.page import write_report
    from headrace.search.spec import DEFAULT_OBJECTIVE, Spec
    from headrace.sim.workload import Workload

    name = "bitnet-b1.58-large"
    spec = Spec(
        design="tellme",
        device="kv260",
        network=name,
        network_hash=network_hash(load_network(name)),
        workload=Workload(),
        objective=DEFAULT_OBJECTIVE,
        strategy="random",
        samples=points,
    )
    problem = Problem(spec)
    indices = problem.space.sample(0, points, 0)
    found = problem.evaluate(indices)
    good = np.flatnonzero(found.violation == 0)
    front = good[pareto_front(found.costs[good])]
    best = int(indices[front[nearest(found.costs[front])]])
    write_report(build(problem, indices, front=indices[front], best=best), path)


def measure(path: Path, repeats: int) -> dict[str, list[float]]:
    """Return milliseconds of every action, and of opening the file."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("there is no Chromium on this machine")
    options: dict[str, Any] = {"executable_path": chromium, "args": ["--disable-gpu"]}
    if os.getuid() == 0:
        options["args"].append("--no-sandbox")
    times: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**options)
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        for _ in range(5):
            start = time.perf_counter()
            page.goto(path.as_uri())
            page.wait_for_selector("body[data-ready]", timeout=120_000)
            times.setdefault("open", []).append(1e3 * (time.perf_counter() - start))
        page.uncheck("#feasible")
        for action in ACTIONS:
            page.evaluate(TIMED, [action, 0])
            times[action] = [page.evaluate(TIMED, [action, k + 1]) for k in range(repeats)]
            page.click("#reset")
            page.uncheck("#feasible")
            page.wait_for_timeout(200)
        browser.close()
    return times


def main() -> None:
    """Write, open, act, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        write(options.points, path)
        size = path.stat().st_size / 1e6
        times = measure(path, options.repeats)
    rows = {name: [statistics.median(t), max(t)] for name, t in times.items()}
    if options.json:
        load = os.getloadavg()[0]
        print(json.dumps({"points": options.points, "mb": size, "load": load, "ms": rows}))
        return
    print(f"{options.points:,} points, {size:.2f} MB, load average {os.getloadavg()[0]:.1f}")
    print(f"{'':16}{'median ms':>12}{'worst ms':>12}")
    for name, (median, worst) in rows.items():
        print(f"{name:16}{median:12.0f}{worst:12.0f}")


if __name__ == "__main__":
    main()
