"""Kernels in bfloat16 with sums in float32, bit by bit, for SN40L; see docs/sn40l-models.md."""

from headrace.models.kernels.bfloat.elementary import (
    exp_bfloat16,
    reciprocal_bfloat16,
    round_to_bfloat16,
)
from headrace.models.kernels.bfloat.fourier import (
    fft_convolution,
    fourier_matrix,
    gemm_mul_transpose_gemm,
    kernel_spectrum,
    monarch_fft,
    twiddle_factors,
)
from headrace.models.kernels.bfloat.matrices import gemm, gemm_sums, multiply, transpose
from headrace.models.kernels.bfloat.rounding import Rounding, StochasticRounding
from headrace.models.kernels.bfloat.rows import rms_norm, softmax

__all__ = [
    "Rounding",
    "StochasticRounding",
    "exp_bfloat16",
    "fft_convolution",
    "fourier_matrix",
    "gemm",
    "gemm_mul_transpose_gemm",
    "gemm_sums",
    "kernel_spectrum",
    "monarch_fft",
    "multiply",
    "reciprocal_bfloat16",
    "rms_norm",
    "round_to_bfloat16",
    "softmax",
    "transpose",
    "twiddle_factors",
]
