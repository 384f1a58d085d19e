"""Operations per byte of the simplified FFT, counted by hand, and the published three."""

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.intensity import fft_stages, intensity, kernel_bytes

PUBLISHED = (39.5, 102.6, 410.4)
FUSIONS = ((1, 1, 1, 1), (3, 1), (4,))


def test_bytes_and_operations_by_hand():
    # x 2 x 5, first 3 x 2, factors 3 x 5, second 7 x 5, result 7 x 3
    stages = fft_stages(2, 3, 5, 7, reads_factors=True)
    assert [stage.name for stage in stages] == ["Gemm0", "Mul", "Transpose", "Gemm1"]
    alone = [10 + 6 + 15, 15 + 15 + 15, 15 + 15, 15 + 35 + 21]
    assert [kernel_bytes([stage]) for stage in stages] == [2 * values for values in alone]
    operations = 2 * 3 * 2 * 5 + 15 + 2 * 7 * 5 * 3
    assert intensity(stages, (1, 1, 1, 1)) == operations / (2 * sum(alone))
    partly = 10 + 6 + 15 + 15
    assert intensity(stages, (3, 1)) == operations / (2 * (partly + alone[3]))
    assert intensity(stages, (4,)) == operations / (2 * (10 + 6 + 15 + 35 + 21))
    assert kernel_bytes(fft_stages(2, 3, 5, 7)) == 2 * (10 + 6 + 35 + 21)


def test_batches_share_weights_and_complex_values_are_pairs():
    stages = fft_stages(2, 3, 5, 7, batch=4, is_complex=True, reads_factors=True)
    assert kernel_bytes(stages) == 2 * 2 * (4 * 10 + 6 + 15 + 35 + 4 * 21)
    assert sum(s.operations for s in stages) == 4 * (8 * 30 + 6 * 15 + 8 * 105)


def test_every_shape_obeys_one_relation():
    rng = np.random.default_rng(0)
    shapes = 2.0 ** rng.integers(0, 14, (4, 500))
    for facts in ({}, {"batch": 8.0}, {"is_complex": True, "reads_factors": True}):
        unfused, partly, fully = (
            intensity(fft_stages(*shapes, **facts), kernels) for kernels in FUSIONS
        )
        assert np.allclose(1 / unfused, 3 / partly - 2 / fully)


def test_a_shape_within_two_percent_of_what_is_published():
    stages = fft_stages(20, 384, 448, 112, is_complex=True)
    for kernels, published in zip(FUSIONS, PUBLISHED, strict=True):
        assert intensity(stages, kernels) == pytest.approx(published, rel=0.02)
    # two rows alone can be met: by shapes that miss the third one by 3.5 %
    stages = fft_stages(256, 512, 2048, 16)
    found = [intensity(stages, kernels) for kernels in FUSIONS]
    assert [round(value, 1) for value in found] == [40.9, 102.3, 410.4]


def test_an_fft_of_two_factors_gains_too_little():
    sizes = 2.0 ** np.arange(14)
    m, n = sizes[:, None], sizes[None, :]
    partly, fully = (intensity(fft_stages(m, m, n, n), kernels) for kernels in FUSIONS[1:])
    assert np.all(fully / partly < 2)


@pytest.mark.parametrize("kernels", [(), (3,), (3, 2), (4, 0), (5, -1)])
def test_kernels_that_do_not_cover_the_chain(kernels):
    with pytest.raises(InputError, match="counts from 1 that add up to 4 are needed"):
        intensity(fft_stages(2, 2, 2, 2), kernels)
