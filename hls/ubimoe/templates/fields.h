// Fields in the beats of a weight image.
#ifndef HEADRACE_UBIMOE_FIELDS_H
#define HEADRACE_UBIMOE_FIELDS_H

#include "sizes.h"

constexpr int common_divisor(int a, int b) {
    return b == 0 ? a : common_divisor(b, a % b);
}

// Signed field number `i` of WIDTH bits in the bits of all `beats`; fields may cross beats.
template <int WIDTH>
ap_int<WIDTH> field(const weights_t beats[], int i) {
#pragma HLS INLINE
    constexpr int PART = common_divisor(WIDTH, BEAT_BITS);
    ap_int<WIDTH> value;
    for (int part = 0; part < WIDTH; part += PART) {
#pragma HLS UNROLL
        const int low = (i * WIDTH + part) % BEAT_BITS;
        value.range(part + PART - 1, part) =
            beats[(i * WIDTH + part) / BEAT_BITS].range(low + PART - 1, low);
    }
    return value;
}

#endif
