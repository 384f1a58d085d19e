import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.arch.axis import Axis, Constraint
from headrace.arch.design import Design
from headrace.arch.tellme import TELLME
from headrace.errors import InputError
from headrace.search.permutation import permuted
from headrace.search.space import Space, parse_choices


def toy() -> Design:
    """Four axes, two of them tied: 2 <= a + b <= 3 leaves five of nine pairs."""
    return Design(
        name="toy",
        summary="",
        axes=(
            Axis(name="a", default=1, summary="", choices=(0, 1, 2), low=0, high=9),
            Axis(name="method", default="x", summary="", choices=("x", "y")),
            Axis(name="b", default=1, summary="", choices=(0, 1, 2), low=0, high=9),
            Axis(name="fast", default=False, summary="", choices=(False, True)),
        ),
        constraints=(
            Constraint(
                name="sum",
                rule="2 <= a + b <= 3",
                holds=lambda p: (p["a"] + p["b"] >= 2) & (p["a"] + p["b"] <= 3),
                knobs=("a", "b"),
            ),
        ),
        resources=lambda point: {},
        default_device="",
        default_network="",
    )


def test_every_index_is_a_valid_point_and_every_valid_point_has_one() -> None:
    space = Space(toy())
    assert (space.combinations, space.size) == (36, 20)
    points = [space.decode(row) for row in space.rows(space.range(0, 99))]
    expected = {
        (a, m, b, f)
        for a in range(3)
        for m in "xy"
        for b in range(3)
        for f in (False, True)
        if 2 <= a + b <= 3
    }
    assert {tuple(p.values()) for p in points} == expected
    assert [space.index(p) for p in points] == list(range(20))
    np.testing.assert_array_equal(space.encode(points), space.rows(space.range(0, 20)))


def test_neighbours_differ_on_one_axis() -> None:
    space = Space(toy())
    points = [tuple(space.decode(r).values()) for r in space.rows(space.range(0, 20))]
    for i, point in enumerate(points):
        expected = [
            j
            for j, other in enumerate(points)
            if sum(x != y for x, y in zip(point, other, strict=True)) == 1
        ]
        assert space.neighbours(i).tolist() == expected


def test_rows_do_not_depend_on_the_company_of_their_index() -> None:
    space = Space(TELLME)
    last = space.size - 1
    single = {i: space.rows(np.array([i]))[0] for i in (0, 1, 5183, 5184, 10**9, last - 1, last)}
    # Long enough for all cores, with runs that cross every digit and end at the last point.
    near = [np.clip(np.arange(i - 700, i + 700), 0, last) for i in single]
    indices = np.concatenate(near)
    out = np.empty((len(indices) + 5, len(space.axes)), np.int32)
    rows = space.rows(indices, out)
    for i, row in single.items():
        assert (rows[indices == i] == row).all()
    shuffled = np.random.default_rng(3).permutation(len(indices))
    np.testing.assert_array_equal(space.rows(indices[shuffled]), rows[shuffled])
    assert space.rows(np.empty(0, np.int64)).shape == (0, len(space.axes))


@pytest.mark.parametrize("index", [-1, 20])
def test_index_outside_of_the_space(index: int) -> None:
    with pytest.raises(InputError, match="^an index is not allowed: 0 to 19$"):
        Space(toy()).rows(np.array([3, index]))


def test_fixed_and_narrowed_axes() -> None:
    space = Space(toy(), {"a": [2], "method": ["y"], "b": (0, 1, 1)})
    assert {tuple(space.decode(r).values()) for r in space.rows(space.range(0, 9))} == {
        (2, "y", 0, False),
        (2, "y", 0, True),
        (2, "y", 1, False),
        (2, "y", 1, True),
    }


def test_values_beside_the_choices() -> None:
    assert Space(toy(), {"a": [3], "b": [0]}).size == 4


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"c": [1]}, "toy has no axis 'c': one of a, method, b, fast"),
        ({"a": [10]}, "a = 10 is not allowed: 0 to 9"),
        ({"a": []}, "a: at least one value needed"),
        ({"a": [0], "b": [0, 1]}, "toy: no point obeys sum: 2 <= a + b <= 3 needed"),
    ],
)
def test_bad_choices(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        Space(toy(), choices)


def test_parse_choices() -> None:
    parsed = parse_choices(toy(), ["a=1,2", "method=y", "fast = true"])
    assert parsed == {"a": (1, 2), "method": ("y",), "fast": (True,)}


@pytest.mark.parametrize(
    "settings, message",
    [
        (["a"], "'a' is not allowed: axis=value or axis=value,value needed"),
        (["a=1", "a=2"], "axis 'a' is set twice"),
        (["a=1,"], "a = '' is not allowed: int needed, 0 to 9"),
    ],
)
def test_bad_settings(settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        parse_choices(toy(), settings)


def test_point_outside_of_the_space() -> None:
    point = toy().point({"a": 2, "b": 0})
    with pytest.raises(InputError, match="is not in the space: see a, b"):
        Space(toy(), {"a": [1]}).index(point)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**64 - 1), st.data())
def test_permutation_is_one_and_comes_in_any_pieces(
    count: int, seed: int, data: st.DataObject
) -> None:
    whole = permuted(0, count, count, seed)
    assert sorted(whole.tolist()) == list(range(count))
    cut = data.draw(st.integers(0, count))
    parts = [permuted(0, cut, count, seed), permuted(cut, count, count, seed)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_samples_are_spread_evenly() -> None:
    # 10^5 samples of 10^15 in ten bins: each holds 10^4 with a standard deviation of 95.
    samples = permuted(0, 10**5, 10**15, seed=7)
    bins = np.bincount(samples // 10**14, minlength=10)
    assert abs(bins - 10**4).max() < 5 * 95
    low = np.bincount(samples % 10, minlength=10)
    assert abs(low - 10**4).max() < 5 * 95
    assert (samples != permuted(0, 10**5, 10**15, seed=8)).mean() > 0.99


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 1, 0, 0), "count = 0 is not allowed: 1 to 2^62"),
        ((0, 5, 4, 0), "samples 0 to 5 are not allowed: 0 to 4"),
        ((0, 1, 4, -1), "seed = -1 is not allowed: 0 to 2^64 - 1"),
    ],
)
def test_bad_permutations(arguments: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        permuted(*arguments)


def test_tellme_samples_obey_the_rules_of_the_design() -> None:
    space = Space(TELLME)
    published = TELLME.point()
    index = space.index(published)
    assert space.decode(space.rows(np.array([index]))[0]) == published
    rows = space.rows(space.sample(0, 200, seed=1))
    assert len({space.decode(row).hash for row in rows}) == 200  # decode checks every rule
