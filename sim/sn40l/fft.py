"""FFT convolution of long sequences as a segment: Monarch's factors as products (figure 3)."""

from collections.abc import Sequence
from math import prod

from headrace.errors import InputError
from headrace.sim.sn40l.workload import Segment, Task

__all__ = ["fft_convolution"]

_REAL, _COMPLEX = 2, 4  # bytes of a bfloat16, and of two


def fft_convolution(rows: int, radices: Sequence[int]) -> Segment:
    """Return the convolution of real sequences with kernels as long, by FFT.

    A transform of n = r1 r2 .. rk points is k products with DFT matrices of r1, .. rk points,
    between them a multiplication by twiddle factors and a transpose; then comes the product with
    the kernel's spectrum, and the same transform back. A row is a whole sequence: transposes need
    one on the chip.

    Parameters
    ----------
    rows : int
        Sequences, each with a kernel of its own, from 1.
    radices : sequence of int
        Factors of the length, at least two, each at least 2.

    Raises
    ------
    InputError
        A number is out of range.
    """
    if type(rows) is not int or rows < 1 or len(radices) < 2 or min(radices) < 2:
        raise InputError(
            f"{rows} rows of radices {tuple(radices)}: at least 1, and two from 2 are needed"
        )
    points, tasks = prod(radices), list[Task]()
    last, real = "input.0", True

    def add(name: str, kind: str, *, out: int = _COMPLEX, macs: int = 0, steps: int = 0,
            weights: int = 0) -> str:  # fmt: skip
        tasks.append(
            Task(
                name=name,
                kind=kind,
                inputs=(last,),
                row_bytes=points * out,
                macs=rows * macs,
                values=rows * points * bool(steps),
                steps=steps,
                weight_bytes=weights,
                gathers=kind == "spectrum",
            )
        )
        return name

    for way in ("forward", "back"):
        for number, radix in enumerate(radices):
            ends = way == "back" and number == len(radices) - 1
            # Two real products per real input or output, four of complex ones.
            macs = points * radix * (2 if real or ends else 4)
            last = add(f"{way}.{number}.dft", "matmul", macs=macs, weights=_COMPLEX * radix**2,
                       out=_REAL if ends else _COMPLEX)  # fmt: skip
            real = False
            if number < len(radices) - 1:
                last = add(f"{way}.{number}.twiddle", "multiply", steps=6,
                           weights=_COMPLEX * points)  # fmt: skip
                last = add(f"{way}.{number}.transpose", "transpose", steps=1)
        if way == "forward":
            last = add("spectrum", "spectrum", steps=6, weights=_COMPLEX * points * rows)
    return Segment(
        name="fft_convolution",
        tasks=tuple(tasks),
        inputs=(("input.0", points * _REAL),),
        outputs=(last,),
        tokens=rows,
        batch=1,
    )
