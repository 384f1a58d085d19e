import base64
import dataclasses
import gzip
import hashlib
import html.parser
import json
import re
import shlex
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.cli import main
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.search.problem import Problem, network_hash
from headrace.search.report.build import build
from headrace.search.report.data import ReportData
from headrace.search.report.importance import importance, variance_share
from headrace.search.report.page import render, write_report
from headrace.search.spec import Spec
from headrace.sim.workload import Workload

GOAL = "max decode_tok_per_s, min lut, min ttft_s * power_w s.t. power_w < 6"
HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028&amp;'\""


def problem_of(network: str = "tiny-bitnet", **changes: Any) -> Problem:
    net = load_network(network)
    values: dict[str, Any] = {
        "design": "tellme",
        "device": "kv260",
        "network": network,
        "network_hash": network_hash(net),
        "workload": Workload(prompt_tokens=16, context_tokens=16),
        "objective": GOAL,
        "strategy": "random",
        "samples": 1000,
    }
    return Problem(Spec(**(values | changes)), network=net)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problem_of()


@pytest.fixture(scope="module")
def indices(problem: Problem) -> NDArray[np.int64]:
    return problem.space.sample(0, 500, 7)


@pytest.fixture(scope="module")
def data(problem: Problem, indices: NDArray[np.int64]) -> ReportData:
    front = indices[::10]
    measured = {
        "cycle": {int(i): {"ttft_s": 0.25} for i in indices[3:7]},
        "rtl": {int(indices[5]): {"ttft_s": 0.5, "lut": float("nan")}},
    }
    best = int(indices[42])
    return build(problem, indices, front=front, best=best, measured=measured, details=20)


class Page(html.parser.HTMLParser):
    """The elements of a page, and the text inside of each script, style and title."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.texts: dict[str, str] = {}
        self.policy = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self._inside = values.get("id") or tag
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data

    def packed(self, name: str) -> bytes:
        return zlib.decompress(base64.b64decode(self.texts[name], validate=True))


def column(raw: bytes, place: list[int], count: int, kind: str) -> NDArray[Any]:
    offset, width = place
    planes = np.frombuffer(raw, np.uint8, count * width, offset).reshape(width, count)
    return np.ascontiguousarray(planes.T).view(kind).ravel()


def test_the_file_holds_the_numbers(
    problem: Problem, indices: NDArray[np.int64], data: ReportData
) -> None:
    page = Page(render(data))
    raw, facts = page.packed("columns-data"), json.loads(page.packed("facts-data"))
    n = facts["count"]
    assert n == 501  # the published point beside the 500
    rows = problem.space.rows(indices)
    columns = problem.evaluator.evaluate(rows).columns
    figures = {f["name"]: column(raw, f["column"], n, "<f4") for f in facts["figures"]}
    assert set(figures) == {*columns, "ttft_s * power_w"}
    for name, values in columns.items():
        np.testing.assert_array_equal(figures[name][:500], values.astype(np.float32))
    product = columns["ttft_s"] * columns["power_w"]
    product[np.isnan(product)] = np.inf  # so that it never wins
    np.testing.assert_allclose(figures["ttft_s * power_w"][:500], product, rtol=1e-6)
    for a, axis in enumerate(facts["axes"]):
        codes = column(raw, axis["column"], n, "<u1")[:500]
        points = [problem.space.decode(row)[axis["name"]] for row in rows]
        texts = [str(p).lower() if isinstance(p, bool) else str(p) for p in points]
        assert [axis["labels"][c] for c in codes] == texts
        numbers = [axis["numbers"][c] for c in codes]
        named = isinstance(problem.space.axes[a].default, str)
        assert numbers == [None] * 500 if named else numbers == rows[:, a].tolist()
    flags = column(raw, facts["flags"], n, "<u1")
    power, lut = columns["power_w"], columns["lut"]
    assert not (flags[:500] & 1)[(lut > 117_120) | ~(power < 6)].any()
    assert 0 < (flags & 1).sum() < 500
    np.testing.assert_array_equal(np.flatnonzero(flags & 2), np.arange(0, 500, 10))
    assert facts["published"] == 500
    assert facts["best"] == 42
    rung = column(raw, facts["rung"], n, "<u1")
    assert {i: rung[i] for i in np.flatnonzero(rung)} == {3: 1, 4: 1, 5: 2, 6: 1}
    assert facts["rungs"] == ["analytic", "cycle", "rtl"]
    assert {f["name"]: f["sense"] for f in facts["figures"] if f["sense"]} == {
        "decode_tok_per_s": "max",
        "lut": "min",
        "ttft_s * power_w": "min",
    }


def test_chosen_points_have_details(problem: Problem, data: ReportData) -> None:
    places = [d.place for d in data.details]
    assert places[:6] == [500, 42, 3, 4, 5, 6]
    assert len(places) == len(set(places)) == 20
    assert all(p % 10 == 0 for p in places[6:])
    assert max(places[6:]) >= 400  # thinned evenly, not cut off
    published = data.details[0]
    point = problem.design.point()
    assert published.hash == point.hash
    assert published.toml == point.to_toml()
    found = problem.design.face("sim")(
        point, problem.device, problem.network, problem.spec.workload
    )
    cycles = {s: sum(p.cycles for p in phases) for s, phases in found.phases.items()}
    for stage, whole in cycles.items():
        assert sum(sum(t.terms) for t in published.budget if t.stage == stage) == whole
    assert published.roof == (found.roof.flop_per_s, found.roof.bytes_per_s)
    events = json.loads(gzip.decompress(published.trace))["traceEvents"]
    drawn = sorted(e["name"] for e in events if e["ph"] == "X")
    assert drawn == sorted(p.name for phases in found.phases.values() for p in phases)
    assert [bool(d.trace) for d in data.details] == [True] * 8 + [False] * 12
    assert data.details[4].measured["cycle"] == {"ttft_s": 0.25}
    facts = json.loads(Page(render(data)).packed("facts-data"))
    assert facts["details"][4]["measured"]["rtl"] == {"ttft_s": 0.5, "lut": None}


@pytest.mark.parametrize("place", [0, 1, 17, 499, 500])
def test_the_command_recreates_the_point(
    problem: Problem, indices: NDArray[np.int64], data: ReportData, place: int, capsys: Any
) -> None:
    words = shlex.split(data.command_of(place))
    assert words[0] == "headrace"
    broken = problem.evaluator.evaluate(problem.space.rows(indices[place : place + 1])).broken
    code = main([*words[1:], "--json"])
    out, err = capsys.readouterr()
    if code:  # a point that cannot run is refused in one line
        assert place < 500
        assert broken[0]
        assert err.count("\n") == 1
        return
    answer = json.loads(out)
    published = problem.design.point()
    row = problem.space.rows(indices[place : place + 1])
    assert answer["hash"] == (problem.space.decode(row[0]) if len(row) else published).hash
    for figure in data.figures:
        if figure.name in answer["metrics"]:
            assert figure.values[place] == pytest.approx(answer["metrics"][figure.name], rel=1e-9)


def test_the_command_quotes_what_it_names(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "it's a $(net) <b>"
    folder.mkdir()
    preset = Path(load_network.__code__.co_filename).parent / "presets" / "tiny-bitnet.json"
    (folder / "config.json").write_text(preset.read_text())
    problem = problem_of(str(folder))
    data = build(problem, np.array([5], np.int64), details=0)
    words = shlex.split(data.command_of(1))
    assert words[words.index("--network") + 1] == str(folder)
    assert main([*words[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hash"] == problem.design.point().hash


def test_the_published_point_may_lie_outside_of_the_space() -> None:
    problem = problem_of(fixed={"tables": (4, 8), "table_buffers": (2,)})
    data = build(problem, np.arange(3), details=1)
    assert data.published == 3
    assert "--set" not in data.command_of(3)
    assert "--set table_buffers=2" in data.command_of(0)
    tables = next(axis for axis in data.axes if axis.name == "tables")
    assert tables.labels == ("4", "28")  # of the first three points, and the published one
    assert data.details[0].hash == problem.design.point().hash


def hostile(data: ReportData) -> ReportData:
    return dataclasses.replace(
        data,
        title=HOSTILE,
        facts=((HOSTILE, HOSTILE), *data.facts),
        command=shlex.join(["headrace", "simulate", HOSTILE]),
        axes=tuple(
            dataclasses.replace(a, label=HOSTILE, labels=tuple(HOSTILE + x for x in a.labels))
            for a in data.axes
        ),
        figures=tuple(dataclasses.replace(f, label=HOSTILE) for f in data.figures),
        importance_note=HOSTILE,
        details=tuple(dataclasses.replace(d, note=HOSTILE, toml=HOSTILE) for d in data.details),
        changes=(
            {"lower": HOSTILE, "upper": HOSTILE, "objective": HOSTILE, "points": 2,
             "tau": 1.0, "largest": 0.5, "moved": HOSTILE, "same_best": True},
        ),
    )  # fmt: skip


def test_hostile_text_stays_text(data: ReportData) -> None:
    page, plain = Page(render(hostile(data))), Page(render(data))
    assert page.tags == plain.tags
    assert page.texts["title"] == HOSTILE
    assert json.loads(page.packed("facts-data"))["facts"][0] == [HOSTILE, HOSTILE]


def test_the_policy_allows_its_own_script_only(data: ReportData) -> None:
    text = render(data)
    page = Page(text)
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules["default-src"] == "'none'"
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        digest = hashlib.sha256(page.texts[tag].encode()).digest()
        assert rules[kind] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert rules["img-src"] == "data: blob:"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_equal_data_give_equal_bytes(
    problem: Problem, indices: NDArray[np.int64], tmp_path: Path
) -> None:
    for name in ("a.html", "b.html"):
        found = build(problem, indices[:50], front=indices[:5], best=int(indices[1]))
        write_report(found, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_hundred_thousand_points_stay_below_10_mb() -> None:
    problem = problem_of("bitnet-b1.58-large")
    found = build(problem, problem.space.sample(0, 100_000, 0), details=1)
    assert len(render(found)) < 10e6


@pytest.mark.parametrize("bad", [-1, 1 << 62])
def test_a_point_outside_of_the_space_is_refused(problem: Problem, bad: int) -> None:
    with pytest.raises(InputError, match="report: a point is not in the space of"):
        build(problem, np.array([3, bad], np.int64))


def test_columns_of_different_lengths_are_refused(data: ReportData) -> None:
    with pytest.raises(InputError, match=r"report: front has shape \(3,\), \(501,\) needed"):
        dataclasses.replace(data, front=np.zeros(3, np.bool_))


def test_a_folder_that_is_missing_is_refused(data: ReportData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        write_report(data, tmp_path / "none" / "report.html")


def test_variance_share_of_known_mixtures() -> None:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 4, 40_000)
    noise = generator.random(40_000)
    assert variance_share(codes, codes * 2.5) == pytest.approx(1)
    assert variance_share(codes, noise) < 0.001
    # The sum of two independent coins: each alone explains half.
    one, two = generator.integers(0, 2, (2, 40_000))
    assert variance_share(one, (one + two).astype(float)) == pytest.approx(0.5, abs=0.02)
    assert variance_share(codes, np.ones(40_000)) == 0
    assert variance_share(np.zeros(40_000), noise) == 0


def test_importance_counts_feasible_points_only(problem: Problem) -> None:
    found, note = importance(problem, ("decode", "LUT", "product"))
    shares = {one.objective: one.shares for one in found}
    # The clock changes no look-up table, but the rate of decoding.
    assert shares["LUT"]["clock_mhz"] < 0.02 < shares["decode"]["clock_mhz"]
    assert all(0 <= s <= 1 for one in found for s in one.shares.values())
    match = re.search(r"of ([\d,]+) points", note)
    assert match
    drawn = problem.space.sample(0, int(match[1].replace(",", "")), 0)
    feasible = int((problem.evaluate(drawn).violation == 0).sum())
    assert f"the {feasible:,} feasible" in note


def test_importance_needs_feasible_points() -> None:
    problem = problem_of(objective="min lut s.t. lut < 1", fixed={"clock_mhz": (250,)})
    found, note = importance(problem, ("LUT",))
    assert found == ()
    assert note.startswith("Only 0 of 1,048,576 points drawn are feasible")
