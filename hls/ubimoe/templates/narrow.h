// Between the wide format and those of operands and features; products with 22 fraction bits.
#ifndef HEADRACE_UBIMOE_NARROW_H
#define HEADRACE_UBIMOE_NARROW_H

#include "functions.h"
#include "sizes.h"

typedef ap_int<OPERAND_BITS> operand_t;
typedef ap_int<WEIGHT_BITS> weight_t;
typedef ap_int<FEATURE_BITS> feature_t;

// A right shift (floor) or, if negative, one to the left; keeps the low 32 bits.
template <int SHIFT, int BITS>
wide_t shifted(ap_int<BITS> value) {
#pragma HLS INLINE
    constexpr int RIGHT = SHIFT > 0 ? SHIFT : 0;
    constexpr int LEFT = SHIFT < 0 ? -SHIFT : 0;
    return ap_int<BITS + LEFT>(value >> RIGHT) << LEFT;
}

// What a kernel stores of a wide value.
static inline operand_t to_operand(wide_t value) {
#pragma HLS INLINE
    const wide_t kept = value >> (WIDE_FRACTION - OPERAND_FRACTION);
    if (OPERAND_SATURATES) {
        const ap_int<OPERAND_BITS + 1> bound = ap_int<OPERAND_BITS + 1>(1) << (OPERAND_BITS - 1);
        if (kept >= bound) return bound - 1;
        if (kept < -bound) return -bound;
    }
    return kept;
}

// Value number `i` of a word.
template <int BITS, typename word_t>
ap_int<BITS> signed_at(const word_t& word, int i) {
#pragma HLS INLINE
    ap_int<BITS> value;
    value.range(BITS - 1, 0) = word.range((i + 1) * BITS - 1, i * BITS);
    return value;
}

template <int BITS, typename word_t>
void put_at(word_t& word, int i, ap_int<BITS> value) {
#pragma HLS INLINE
    word.range((i + 1) * BITS - 1, i * BITS) = value.range(BITS - 1, 0);
}

#endif
