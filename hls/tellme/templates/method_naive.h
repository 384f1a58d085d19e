typedef activation_t block_t[TABLES][GROUP_SIZE];

static void prepare(hls::stream<lanes_t>& activations, block_t block) {
    read_block(activations, block);
}

// Method M1: every weight selects +x, -x or 0, then an adder tree.
static sum_t weigh(const block_t block, int, vector_t vector) {
#pragma HLS INLINE
    sum_t sum = 0;
    for (int t = 0; t < TABLES; t++) {
#pragma HLS UNROLL
        const unsigned index = vector.range((t + 1) * INDEX_BITS - 1, t * INDEX_BITS);
        require(index < PATTERNS, "weights: index without a pattern");
        sum += signed_sum(block[t], index);
    }
    return sum;
}
