// Sizes, types and index table of the ternary matmul engine. Generated from point.toml.
#ifndef HEADRACE_TERNARY_MATMUL_SIZES_H
#define HEADRACE_TERNARY_MATMUL_SIZES_H

#define AP_INT_MAX_W 4096  // the window of the loader is wider than the default of 1024 bits

#include <ap_int.h>

@constants@

typedef ap_int<8> activation_t;
typedef ap_uint<INDEX_BITS> index_t;
typedef ap_uint<VECTOR_BITS> vector_t;           // the T indices of one output in one row block
typedef ap_int<ENTRY_BITS> entry_t;              // a signed sum of G activations
typedef ap_int<SUM_BITS> sum_t;                  // a sum of T entries
typedef ap_int<ACCUMULATOR_BITS> accumulator_t;  // wraps around
typedef ap_uint<BEAT_BITS> beat_t;
typedef ap_uint<BEAT_BITS + VECTOR_BITS> window_t;
typedef ap_uint<8 * ACTIVATION_LANES> lanes_t;
typedef ap_uint<RESULT_BITS> results_t;          // Q accumulators, low bits first
typedef ap_uint<32> load_t;                      // rows, groups: 16 bits each, rows lowest
typedef ap_uint<64> compute_t;                   // rows, groups, stride, tokens: 16 bits each

// The weights that each index stands for; index i + (3^G - 1)/2 is the negative of index i.
constexpr signed char PATTERN[PATTERNS][GROUP_SIZE] = @patterns@;

#endif
