import pytest

from headrace.arch.calibration import calibration, constant


@pytest.mark.parametrize("name", calibration())
def test_every_constant_tells_its_origin(name):
    entry = calibration()[name]
    assert entry.source
    assert entry.unit
    # What a constant was fitted on is not a prediction, so a fitted one must name it.
    assert bool(entry.fitted_on) == entry.fitted


def test_default_gap_of_the_axis_is_the_calibrated_one():
    from headrace.arch.design import load_design

    point = load_design("tellme").point()
    assert point["block_gap_cycles"] == constant("tellme.block_gap_cycles")


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        calibration()["tellme.ddr_efficiency"] = None
