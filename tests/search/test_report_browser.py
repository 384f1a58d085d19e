"""The report in a real browser, from disk, with the network switched off."""

import dataclasses
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.models.network import load_network
from headrace.search.problem import Problem, network_hash
from headrace.search.report.build import build
from headrace.search.report.data import ReportData
from headrace.search.report.page import write_report
from headrace.search.spec import Spec
from headrace.sim.workload import Workload

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

HOSTILE = "</script><img src=x onerror=alert(1)><b>&amp;"
SHOWN = 300


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    if os.getuid() == 0:
        quiet.append("--no-sandbox")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=[*quiet, "--disable-sync"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def data() -> ReportData:
    network = load_network("tiny-bitnet")
    problem = Problem(
        Spec(
            design="tellme",
            device="kv260",
            network="tiny-bitnet",
            network_hash=network_hash(network),
            workload=Workload(prompt_tokens=16, context_tokens=16),
            objective="max decode_tok_per_s, min lut, min power_w",
            strategy="random",
            samples=SHOWN,
        )
    )
    indices = problem.space.sample(0, SHOWN, 3)
    good = indices[problem.evaluate(indices).violation == 0]
    measured = {"cycle": {int(good[0]): {"lut": 51234.0}}}
    found = build(problem, indices, front=good[:9], best=int(good[4]), measured=measured, details=6)
    change = {"lower": "analytic", "upper": "cycle", "objective": "min lut", "points": 3,
              "tau": 0.5, "largest": -0.25, "moved": found.details[2].hash,
              "same_best": False}  # fmt: skip
    return dataclasses.replace(found, title="a study", changes=(change,))


Open = Callable[..., Any]


@pytest.fixture
def open_report(browser: Any, data: ReportData, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens a report; whatever the page complains of is a failure."""
    complaints: list[str] = []
    requests: list[str] = []
    contexts = []

    def opened(report: ReportData = data, **options: Any) -> Any:
        path = tmp_path / "report.html"
        write_report(report, path)
        size = {"width": 1400, "height": 900}
        context = browser.new_context(viewport=size, offline=True, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]", timeout=30_000)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert all(url.startswith(("file:", "blob:", "data:")) for url in requests)


def settle(page: Any) -> None:
    """Wait until what was asked for is drawn."""
    page.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")


def count(page: Any) -> int:
    settle(page)
    text = page.text_content("#count")
    return int(text.split(" of ")[0].replace(",", ""))


def single(data: ReportData, name: str) -> NDArray[np.float32]:
    """Return a figure as the page has it."""
    return next(f.values for f in data.figures if f.name == name).astype(np.float32)


def where(page: Any, place: int) -> tuple[float, float]:
    """Return the pixel of a point in the window."""
    x, y = page.evaluate(f"headraceReport.scatter.place({place})")
    box = page.locator("#scatter").bounding_box()
    return box["x"] + x, box["y"] + y


def lonely(page: Any, data: ReportData) -> int:
    """Return a feasible point that lies farthest from all others on the screen."""
    good = np.flatnonzero(data.feasible)
    pixels = np.array([where(page, int(i)) for i in good])
    distance = np.hypot(*(pixels[:, None] - pixels[None]).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf)
    return int(good[distance.min(axis=1).argmax()])


def test_it_opens(open_report: Open, data: ReportData) -> None:
    page = open_report()
    assert page.title() == "a study"
    assert page.text_content("h1") == "a study"
    assert page.evaluate("document.fonts.size") == 0  # nothing to be fetched
    assert count(page) == data.feasible.sum()
    assert page.text_content("#count").endswith(f"of {SHOWN + 1} points shown")
    assert page.text_content("#name").startswith(data.details[1].hash[:12])


def test_points_lie_where_their_figures_say(open_report: Open, data: ReportData) -> None:
    page = open_report()
    page.select_option("#x", "power_w")
    page.select_option("#y", "decode_tok_per_s")
    for box in ("#xlog", "#ylog"):
        page.set_checked(box, False)
    settle(page)
    good = np.flatnonzero(data.feasible)
    pixels = np.array([where(page, int(i)) for i in good])
    for axis, name in enumerate(("power_w", "decode_tok_per_s")):
        values = single(data, name)[good].astype(float)
        slope, offset = np.polyfit(values, pixels[:, axis], 1)
        np.testing.assert_allclose(slope * values + offset, pixels[:, axis], atol=0.01)
        assert (slope > 0) == (axis == 0)  # up the screen is more, and pixels count down
    page.set_checked("#ylog", True)
    settle(page)
    logs = np.log(single(data, "decode_tok_per_s")[good].astype(float))
    heights = np.array([where(page, int(i))[1] for i in good])
    slope, offset = np.polyfit(logs, heights, 1)
    np.testing.assert_allclose(slope * logs + offset, heights, atol=0.01)


def test_hover_tells_the_figures(open_report: Open, data: ReportData) -> None:
    page = open_report()
    place = lonely(page, data)
    page.mouse.move(*where(page, place))
    page.wait_for_selector("#tip:not([hidden])")
    rows = page.locator("#tip div").all_inner_texts()
    told = dict(row.split("\n") for row in rows)
    assert set(told) == {"LUT", "decode (tok/s)", "power (W)"}
    for label, name in (("LUT", "lut"), ("decode (tok/s)", "decode_tok_per_s")):
        expected = single(data, name)[place]
        assert float(told[label].replace(",", "")) == pytest.approx(expected, rel=1e-4)
    page.mouse.move(5, 5)
    page.wait_for_selector("#tip", state="hidden")


def test_click_selects(open_report: Open, data: ReportData) -> None:
    page = open_report()
    place = lonely(page, data)
    page.mouse.click(*where(page, place))
    settle(page)
    assert page.text_content("#command") == data.command_of(place)
    row = page.locator("#detail tbody tr", has_text="DSP").first.inner_text().split("\t")
    dsp = single(data, "dsp")[place]
    assert float(row[1].replace(",", "")) == pytest.approx(dsp, rel=1e-4)
    bar = page.locator("#detail .resource", has_text="DSP")
    assert f"of 1248, {100 * dsp / 1248:.0f} %" in bar.inner_text()
    differing = [a.label for a in data.axes if a.codes[place] != a.default]
    table = page.locator("#detail table").nth(1)
    assert table.locator("tbody th").all_inner_texts() == differing


def test_buttons_show_best_and_published(open_report: Open, data: ReportData) -> None:
    page = open_report()
    page.click("#published")
    assert page.text_content("#command") == data.command
    assert page.text_content("#name").startswith(data.details[0].hash[:12])
    cycles = sum(sum(t.terms) for t in data.details[0].budget if t.stage == "decode")
    assert f"{cycles:,} cycles" in page.text_content("#detail h4 >> nth=1")
    drawn = page.locator("#detail svg circle").count()
    assert drawn == len(data.details[0].roofline)
    page.click("#best")
    assert page.text_content("#command") == data.command_of(data.best or 0)
    page.click("#changes button.link")  # the point that moved most
    assert page.text_content("#name").startswith(data.details[2].hash[:12])
    assert "51,234" in page.text_content("#detail table >> nth=0")


def test_filters_count_what_numpy_counts(open_report: Open, data: ReportData) -> None:
    page = open_report()
    page.uncheck("#feasible")
    assert count(page) == SHOWN + 1
    page.check("#front")
    assert count(page) == data.front.sum() == 9
    page.uncheck("#front")
    page.check("#feasible")
    lut, power = single(data, "lut"), single(data, "power_w")
    clock = next(axis for axis in data.axes if axis.name == "clock_mhz")
    clock_mhz = np.array(clock.numbers)[clock.codes]
    for text, expected in (
        ("lut <= 90000 and power_w < 4.5", (lut <= 90000) & (power < 4.5)),
        ("70000 < lut < 9e4", (lut > 70000) & (lut < 9e4)),
        ("lut / 1000 - 2 * power_w >= clock_mhz / -(-4)", lut / 1e3 - 2 * power >= clock_mhz / 4),
        ("clock_mhz == 200", clock_mhz == 200),
    ):
        page.fill("#constraint", text)
        assert count(page) == (expected & data.feasible).sum()
        assert not page.is_visible("#fault")
    assert 0 < count(page) < data.feasible.sum()
    page.click("#reset")
    assert count(page) == data.feasible.sum()
    page.click("#ranges summary")
    page.fill('.range[data-name="lut"] input >> nth=1', "80000.5")
    page.keyboard.press("Tab")
    assert count(page) == (data.feasible & (lut <= 80000.5)).sum()
    page.select_option('.range[data-name="clock_mhz"] select >> nth=0', label="250")
    assert count(page) == (data.feasible & (lut <= 80000.5) & (clock_mhz >= 250)).sum()


def test_what_was_drawn_before_is_wiped_off(open_report: Open) -> None:
    page = open_report()
    pictures = "[...document.querySelectorAll('canvas')].map(c => c.toDataURL())"
    before = page.evaluate(pictures)
    page.select_option("#y", "power_w")
    page.uncheck("#feasible")
    settle(page)
    assert page.evaluate(pictures)[0] != before[0]
    page.select_option("#y", "decode_tok_per_s")
    page.check("#feasible")
    settle(page)
    assert page.evaluate(pictures) == before


@pytest.mark.parametrize(
    "text, fault",
    [
        ("lut <=", "column 7: a number or a name expected"),
        ("luts < 3", "column 1: unknown name luts"),
        ("lut < 3 or 1", "column 9: 'and' or an operator expected"),
        ("alert(1) < 3", "column 1: unknown name alert"),
        ("constructor < 3", "column 1: unknown name constructor"),
        ("lut = 3", "column 5: not part of a constraint"),
        ("lut", "column 4: one of < <= > >= == expected"),
        ("(" * 100 + "lut", "column 65: nested too deeply"),
    ],
)
def test_a_bad_constraint_is_explained(
    open_report: Open, data: ReportData, text: str, fault: str
) -> None:
    page = open_report()
    page.fill("#constraint", text)
    assert page.text_content("#fault") == fault
    assert count(page) == data.feasible.sum()


def test_a_rectangle_keeps_its_points(open_report: Open, data: ReportData) -> None:
    page = open_report()
    good = np.flatnonzero(data.feasible)
    pixels = np.array([where(page, int(i)) for i in good])
    (left, top), (right, bottom) = (
        [_gap(pixels[:, k], share) for k in (0, 1)] for share in (30, 70)
    )
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(right, bottom, steps=3)
    page.mouse.up()
    inside = (pixels > (left, top)).all(axis=1) & (pixels < (right, bottom)).all(axis=1)
    assert count(page) == inside.sum() > 0


def _gap(pixels: NDArray[np.float64], share: float) -> int:
    """Return the whole pixel farthest from all points among those near a percentile."""
    middle = int(np.percentile(pixels, share))
    near = np.arange(middle - 15, middle + 16)
    return int(near[np.abs(near[:, None] - pixels).min(axis=1).argmax()])


def test_brushing_parallel_coordinates_filters(open_report: Open, data: ReportData) -> None:
    page = open_report()
    found = page.evaluate(
        "headraceReport.parallel.axes.map(a => [a.column.name, a.x, a.domain.map(a.scale.at)])"
    )
    name, x, (bottom, _) = next(f for f in found if f[0] == "clock_mhz")
    step = page.evaluate(
        "(a => a.scale.at(0) - a.scale.at(1))"
        "(headraceReport.parallel.axes.find(a => a.column.name === 'clock_mhz'))"
    )
    page.locator("#parallel").scroll_into_view_if_needed()
    box = page.locator("#parallel").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + bottom + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + x, box["y"] + bottom - 0.4 * step, steps=3)
    page.mouse.up()
    clock = next(axis for axis in data.axes if axis.name == name)
    lowest = clock.codes == clock.codes[data.feasible].min()
    assert count(page) == (data.feasible & lowest).sum() < data.feasible.sum()
    assert page.evaluate("headraceReport.scatter.state.ranges.size") == 1
    page.mouse.click(box["x"] + x, box["y"] + bottom)
    assert count(page) == data.feasible.sum()


def test_axes_and_colour_can_be_chosen(open_report: Open, data: ReportData) -> None:
    page = open_report()
    before = page.locator("#scatter").screenshot()
    page.select_option("#x", "tables")
    page.select_option("#colour", "power_w")
    settle(page)
    assert page.is_disabled("#xlog")
    assert page.locator("#scatter").screenshot() != before
    power = single(data, "power_w")[data.feasible]
    ends = page.inner_text("#legend").split()
    assert [float(e) for e in ends] == pytest.approx([power.min(), power.max()], rel=1e-4)
    axes = page.evaluate("headraceReport.parallel.axes.length")
    page.check("#all")
    settle(page)
    varying = sum(len(np.unique(a.codes)) > 1 for a in data.axes)
    assert page.evaluate("headraceReport.parallel.axes.length") == 3 + varying > axes


def test_the_keyboard_walks_along_the_front(open_report: Open, data: ReportData) -> None:
    page = open_report()
    page.focus("#scatter canvas[tabindex]")
    page.keyboard.press("Escape")
    assert "Click a point" in page.text_content("#detail")
    order = sorted(np.flatnonzero(data.front & data.feasible), key=lambda i: single(data, "lut")[i])
    for place in order[:3]:
        page.keyboard.press("ArrowRight")
        assert page.text_content("#command") == data.command_of(int(place))
    page.keyboard.press("ArrowLeft")
    assert page.text_content("#command") == data.command_of(int(order[1]))


def test_copy_puts_the_command_on_the_clipboard(open_report: Open, data: ReportData) -> None:
    page = open_report(permissions=["clipboard-read", "clipboard-write"])
    page.click("#detail .copy")
    # a locator waits without eval, which the page's own policy forbids
    page.locator(".copy", has_text="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == data.command_of(data.best or 0)


def test_the_trace_can_be_saved(open_report: Open, data: ReportData, tmp_path: Path) -> None:
    page = open_report()
    with page.expect_download() as download:
        page.click("#trace")
    download.value.save_as(tmp_path / "trace.json.gz")
    assert (tmp_path / "trace.json.gz").read_bytes() == data.details[1].trace
    assert json.loads(gzip.decompress(data.details[1].trace))["traceEvents"]
    assert download.value.suggested_filename == f"{data.details[1].hash[:12]}.trace.json.gz"


def test_a_point_without_details_leads_to_one(open_report: Open, data: ReportData) -> None:
    page = open_report()
    stored = {d.place for d in data.details}
    place = next(int(i) for i in np.flatnonzero(data.front) if i not in stored)
    page.focus("#scatter canvas[tabindex]")
    page.keyboard.press("Escape")
    for _ in range(9):  # points on the front
        page.keyboard.press("ArrowRight")
        if page.text_content("#command") == data.command_of(place):
            break
    assert page.text_content("#name").startswith(f"point {place + 1} ")
    names = ("decode_tok_per_s", "lut", "power_w")
    costs = np.stack([single(data, name) for name in names], axis=1)
    span = np.ptp(costs[data.feasible], axis=0)
    order = sorted(stored, key=lambda i: np.square((costs[i] - costs[place]) / span).sum())
    page.click("#detail button:has-text('Nearest')")
    assert page.text_content("#command") == data.command_of(order[0])


def test_hostile_text_does_nothing(open_report: Open, data: ReportData) -> None:
    report = dataclasses.replace(
        data,
        title=HOSTILE,
        facts=((HOSTILE, HOSTILE),),
        command=HOSTILE,
        figures=tuple(dataclasses.replace(f, label=HOSTILE) for f in data.figures),
        axes=tuple(
            dataclasses.replace(a, label=HOSTILE, summary=HOSTILE, labels=(HOSTILE,) * 99)
            for a in data.axes
        ),
        importance_note=HOSTILE,
        details=tuple(
            dataclasses.replace(d, note=HOSTILE, toml=HOSTILE, hash=HOSTILE) for d in data.details
        ),
        changes=tuple({**c, "lower": HOSTILE, "moved": HOSTILE} for c in data.changes),
    )
    page = open_report(report)
    assert page.title() == HOSTILE
    assert page.text_content("h1") == HOSTILE
    page.click("#published")
    assert HOSTILE in page.text_content("#detail")
    page.mouse.move(*where(page, data.best or 0))
    page.wait_for_selector("#tip:not([hidden])")
    assert HOSTILE in page.text_content("#tip")
    assert page.evaluate("document.querySelectorAll('img, b b, body > script').length") == 3
    assert page.evaluate("document.scripts.length") == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_are_legible(open_report: Open, scheme: str) -> None:
    page = open_report(color_scheme=scheme)
    for names in (("--text", "--panel"), ("--soft", "--panel"), ("--soft", "--page")):
        colours = [page.evaluate(f"theme('{name}')") for name in names]
        light, dark = sorted((_luminance(c) for c in colours), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, criterion 1.4.3
    corner = page.evaluate(
        "[...document.querySelector('#scatter canvas').getContext('2d')"
        ".getImageData(90, 30, 1, 1).data]"
    )
    assert (sum(corner[:3]) > 600) == (scheme == "light")


def _luminance(colour: str) -> float:
    parts = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("objective", ["decode_tok_per_s", "lut"])
def test_one_objective_is_drawn_over_another_figure(
    open_report: Open, data: ReportData, objective: str
) -> None:
    figures = tuple(
        dataclasses.replace(f, sense=f.sense if f.name == objective else "") for f in data.figures
    )
    page = open_report(dataclasses.replace(data, figures=figures))
    chosen = [page.input_value(menu) for menu in ("#x", "#y")]
    assert objective in chosen
    assert chosen[0] != chosen[1]


def test_a_report_without_front_best_or_second_rung(open_report: Open, data: ReportData) -> None:
    nothing = np.zeros(len(data), np.bool_)
    report = dataclasses.replace(
        data,
        feasible=nothing,
        front=nothing,
        rung=np.zeros(len(data), np.uint8),
        best=None,
        changes=(),
        importance=(),
        details=(),
    )
    page = open_report(report)
    assert not page.is_checked("#feasible")
    assert count(page) == SHOWN + 1
    assert page.is_disabled("#best")
    page.check("#feasible")
    assert count(page) == 0
