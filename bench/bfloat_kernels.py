"""Print how far the bfloat16 kernels of SN40L are from float64, and how long they take.

    .venv/bin/python bench/bfloat_kernels.py [--json]

Normal inputs of NumPy seed 0; the convolution is the paper's FlashFFTConv of a million values, its
kernel decays over 1000. Errors are those of the result against the exact one of the same inputs,
``|result - exact| / |exact|``. Processor time is of one run, compiled before.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator

import numpy as np

from headrace.models.kernels import bfloat

POINTS = 2**20


def measured(name: str, run: Callable[..., np.ndarray], exact: np.ndarray) -> Iterator[dict]:
    for rounding in (bfloat.round_to_bfloat16, bfloat.StochasticRounding(1)):
        start = time.process_time()
        result = run(rounding=rounding)
        seconds = time.process_time() - start
        error = np.linalg.norm(result - exact) / np.linalg.norm(exact)
        by = "nearest" if rounding is bfloat.round_to_bfloat16 else "chance"
        yield {"kernel": name, "rounding": by, "error": float(error), "processor_s": seconds}


def kernels() -> Iterator[dict]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return bfloat.round_to_bfloat16(rng.standard_normal(shape).astype(np.float32))

    a, b = normal(512, 512), normal(512, 512)
    bfloat.gemm(a[:1], b, bfloat.StochasticRounding(1))  # compiles
    exact = a.astype(float) @ b
    yield from measured("gemm 512 x 512 x 512", lambda rounding: bfloat.gemm(a, b, rounding), exact)

    x = bfloat.round_to_bfloat16(3 * normal(64, 4096))
    exact = np.exp(x.astype(float) - x.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    yield from measured(
        "softmax 64 x 4096, deviation 3", lambda rounding: bfloat.softmax(x, rounding), exact
    )

    ones = np.ones(4096, np.float32)
    exact = x / np.sqrt((x.astype(float) ** 2).mean(axis=1, keepdims=True) + 1e-5)
    yield from measured(
        "rms_norm 64 x 4096", lambda rounding: bfloat.rms_norm(x, ones, 1e-5, rounding), exact
    )

    signal = normal(POINTS)
    kernel = rng.standard_normal(POINTS) * np.exp(-np.arange(POINTS) / 1000)
    exact = np.fft.ifft(np.fft.fft(signal.astype(float)) * np.fft.fft(kernel)).real
    spectrum = bfloat.kernel_spectrum(kernel)
    for factors in ((1024, 1024), (128, 128, 64)):
        yield from measured(
            f"fft_convolution {factors}",
            lambda rounding, f=factors: bfloat.fft_convolution(signal, spectrum, f, rounding),
            exact,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    found = list(kernels())
    if parser.parse_args().json:
        print(json.dumps(found))
        return
    for f in found:
        print(f"{f['kernel']:32} {f['rounding']:8} {f['error']:8.2e} {f['processor_s']:6.2f} s")


if __name__ == "__main__":
    main()
