"""Print which shapes of figure 3's FFT come near the operations per byte of SN40L's table I.

    .venv/bin/python bench/fft_intensity.py [--json]

Shapes are searched in families; a family's error is that of its best shape, the largest of the
three rows'. Bounds hold for every shape of a family, whatever its sizes:

- A value between two stages costs its write and its read. All three have the same size, the
  partly fused form pays one of them, the unfused form all three. So bytes are F, F + x and
  F + 3 x, and operations per byte obey 1 / unfused = 3 / partly - 2 / fully.
- Factors that are read, one for each value between, leave x <= 2 F: partly fused, it is at least a
  third of fully fused; published is a quarter. Factors that serve a batch are fewer.
- An FFT's input and output are as large as what is between: x <= F, at least a half.
"""

import argparse
import json
from itertools import product

import numpy as np

from headrace.models.intensity import fft_stages, intensity

PUBLISHED = np.array([39.5, 102.6, 410.4])
FUSIONS = ((1, 1, 1, 1), (3, 1), (4,))
POWERS = 2 ** np.arange(15)
OTHERS = np.sort(
    np.concatenate([POWERS[(POWERS > 4) & (POWERS < 8192)] * f // 4 for f in (4, 5, 6, 7)])
)


def rows(k, m, n, p, **facts) -> np.ndarray:
    """Return operations per byte of the three rows, along a new first axis."""
    stages = fft_stages(k, m, n, p, **facts)
    return np.stack([intensity(stages, fusion) for fusion in FUSIONS])


def chain_bound() -> float:
    """Return the least error of any chain whose three values between have one size."""
    unfused, partly, fully = 1 / PUBLISHED
    too_low, too_high = unfused + 2 * fully, 3 * partly
    return (too_low - too_high) / (too_low + too_high)


def ratio_bound(least: float) -> float:
    """Return the least error where partly over fully fused is at least so much."""
    quotient = least * PUBLISHED[2] / PUBLISHED[1]
    return (quotient - 1) / (quotient + 1)


def best(sizes: np.ndarray, is_fft: bool, **facts) -> tuple[float, tuple[int, ...], np.ndarray]:
    """Return error, shape (k, m, n, p), and rows of the best shape of a family."""
    sizes = sizes.astype(float)
    if is_fft:
        m, n = sizes[:, None], sizes[None, :]
        k, p = m, n
    else:
        k, m, n, p = np.ix_(sizes, sizes, sizes, sizes)
    found = rows(k, m, n, p, **facts)
    published = PUBLISHED.reshape(3, *[1] * (found.ndim - 1))
    errors = np.abs(found / published - 1).max(axis=0)
    place = np.unravel_index(np.argmin(errors), errors.shape)
    shape = tuple(int(np.broadcast_to(size, errors.shape)[place]) for size in (k, m, n, p))
    return float(errors[place]), shape, found[(slice(None), *place)]


def families():
    """Yield the families and their bounds."""
    for is_fft, reads, is_complex in product((False, True), repeat=3):
        for name, sizes, batch in (
            ("powers of two", POWERS, 1),
            ("powers of two", POWERS, 16),
            ("also 5/4, 6/4, 7/4", OTHERS, 1),
        ):
            bound = chain_bound()
            if is_fft:
                bound = ratio_bound(1 / 2)
            elif reads and batch == 1:
                bound = ratio_bound(1 / 3)
            facts = {"batch": batch, "is_complex": is_complex, "reads_factors": reads}
            error, shape, found = best(sizes, is_fft, **facts)
            yield {"shapes": "FFT" if is_fft else "any", "sizes": name, **facts,
                   "error": error, "bound": bound, "k_m_n_p": shape,
                   "operations_per_byte": found.tolist()}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    found = list(families())
    if parser.parse_args().json:
        print(json.dumps(found))
        return
    print("shapes sizes               batch values  factors   error   bound  k, m, n, p -> U, P, F")
    for f in found:
        values = ", ".join(f"{v:.1f}" for v in f["operations_per_byte"])
        print(
            f"{f['shapes']:6} {f['sizes']:19} {f['batch']:5} "
            f"{'complex' if f['is_complex'] else 'real':7} "
            f"{'read' if f['reads_factors'] else 'constant':8} {f['error']:7.2%} {f['bound']:7.2%}"
            f"  {f['k_m_n_p']} -> {values}"
        )


if __name__ == "__main__":
    main()
