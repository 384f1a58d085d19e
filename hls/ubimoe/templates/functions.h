// The functions of UbiMoE in fixed point with 22 fraction bits (docs/ubimoe-numerics.md).
#ifndef HEADRACE_UBIMOE_FUNCTIONS_H
#define HEADRACE_UBIMOE_FUNCTIONS_H

#include <ap_int.h>

#ifndef __SYNTHESIS__
#include <stdexcept>
#endif

typedef ap_int<32> wide_t;  // wraps around; one is 2^22
constexpr int WIDE_BITS = 32;
constexpr int WIDE_FRACTION = 22;

// round(2^22 exp(-i/16)) and round(2^22 exp(-i/4096)).
static const ap_uint<23> EXP_COARSE[@exp_entries@] = @exp_coarse@;
static const ap_uint<23> EXP_FINE[@exp_entries@] = @exp_fine@;
// round(2^22 (relu - gelu)(i/32)).
static const ap_uint<20> GELU_DIFFERENCES[@gelu_entries@] = @gelu_differences@;

// Refuse in C simulation what would corrupt memory in hardware.
static inline void require(bool holds, const char* rule) {
#pragma HLS INLINE
#ifndef __SYNTHESIS__
    if (!holds) throw std::out_of_range(rule);
#endif
}

// EXP(-x): two tables and the first two terms of the series for the last ten bits.
static inline ap_uint<23> exponential(ap_uint<33> x) {
#pragma HLS INLINE
    const ap_uint<46> product = EXP_COARSE[x.range(25, 18)] * EXP_FINE[x.range(17, 10)];
    const ap_uint<23> power = product >> WIDE_FRACTION;
    const ap_uint<10> rest = x.range(9, 0);
    const ap_uint<23> correction = ap_uint<33>(power * rest) >> WIDE_FRACTION;
    return x.range(32, 26) != 0 ? ap_uint<23>(0) : ap_uint<23>(power - correction);
}

// EXP(score - largest), largest >= score.
static inline ap_uint<23> exponential_below(wide_t score, wide_t largest) {
#pragma HLS INLINE
    return exponential(ap_uint<33>(ap_int<33>(largest) - ap_int<33>(score)));
}

// RECIP(s), s >= 2^22.
static inline ap_uint<23> reciprocal(ap_uint<31> s) {
#pragma HLS INLINE
    require(s >= (1 << WIDE_FRACTION), "reciprocal: argument below one");
    return (ap_uint<45>(1) << 44) / s;
}

// RSQRT(v): one bit of the root per step, the highest first, then a division.
static inline ap_uint<31> root_reciprocal(wide_t v) {
#pragma HLS INLINE
    const ap_uint<53> radicand = ap_uint<53>(v < 1 ? wide_t(1) : v) << WIDE_FRACTION;
    ap_uint<27> root = 0;
    for (int bit = 26; bit >= 0; bit--) {
#pragma HLS UNROLL
        const ap_uint<27> trial = root | (ap_uint<27>(1) << bit);
        if (ap_uint<54>(trial * trial) <= radicand) root = trial;
    }
    const ap_uint<45> quotient = (ap_uint<45>(1) << 44) / root;
    return (quotient >> 31) != 0 ? ap_uint<31>(0x7fffffff) : ap_uint<31>(quotient);
}

// GELU(x) = relu(x) - delta(|x|), delta interpolated between entries of a table up to 5.5.
static inline wide_t gelu(wide_t x) {
#pragma HLS INLINE
    const bool negative = x < 0;
    const ap_uint<32> magnitude = negative ? ap_uint<32>(-x) : ap_uint<32>(x);
    wide_t delta = 0;
    if (magnitude < (11 << (WIDE_FRACTION - 1))) {
        const unsigned i = magnitude >> 17;
        const ap_uint<17> fraction = magnitude.range(16, 0);
        const ap_int<21> low = GELU_DIFFERENCES[i];
        const ap_int<21> rise = ap_int<21>(GELU_DIFFERENCES[i + 1]) - low;
        delta = low + (ap_int<39>(rise * fraction) >> 17);
    }
    return (negative ? wide_t(0) : x) - delta;
}

#endif
