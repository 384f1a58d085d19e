// Top function of the ternary matmul engine.
#ifndef HEADRACE_TERNARY_MATMUL_H
#define HEADRACE_TERNARY_MATMUL_H

#include "sizes.h"  // first: it sets the widest ap_int

#include <hls_stream.h>

// Load and compute `tiles` tiles, one load and one compute command each. Per tile:
//   weights      the beats of load.rows x load.groups output groups
//   activations  READ_CYCLES transfers per row block of each token
//   results      compute.groups transfers per token
// A call returns when the last result is written.
void @top@(ap_uint<32> tiles, hls::stream<load_t>& load, hls::stream<compute_t>& compute,
    hls::stream<beat_t>& weights, hls::stream<lanes_t>& activations,
    hls::stream<results_t>& results);

#endif
