"""The FFT convolution as a segment: what it computes, and its kernels."""

import pytest

from headrace.arch.sn40l.chip import ChipSizes
from headrace.errors import InputError
from headrace.sim.sn40l.fft import fft_convolution
from headrace.sim.sn40l.sections import cut_segment

CHIP = ChipSizes()


def test_products_of_two_radices():
    """Real in and out: two products per point and radix there, four elsewhere."""
    segment = fft_convolution(3, (8, 4))
    assert [task.kind for task in segment.tasks] == [
        "matmul", "multiply", "transpose", "matmul", "spectrum",
        "matmul", "multiply", "transpose", "matmul",
    ]  # fmt: skip
    assert sum(task.macs for task in segment.tasks) == 3 * 32 * (2 * 8 + 4 * 4 + 4 * 8 + 2 * 4)
    assert segment.tasks[-1].row_bytes == 32 * 2
    assert segment.outputs == ("back.1.dft",)


def test_one_kernel_reads_sequences_and_spectra_once():
    segment = fft_convolution(16, (128, 128, 64))
    (kernel,) = cut_segment(segment, CHIP, "full", tile_rows=1)
    points = 2**20
    tables = 2 * (4 * (128**2 + 128**2 + 64**2) + 2 * 4 * points)
    assert kernel.hbm_bytes == 16 * points * (2 + 4 + 2) + tables
    assert len(cut_segment(segment, CHIP, "operators", tile_rows=1)) == len(segment.tasks) == 15


@pytest.mark.parametrize(("rows", "radices"), [(0, (4, 4)), (1, (4,)), (1, (1, 4)), (1.0, (4, 4))])
def test_refusals(rows, radices):
    with pytest.raises(InputError, match="radices"):
        fft_convolution(rows, radices)
