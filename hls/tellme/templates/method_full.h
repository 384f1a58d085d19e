// Method M3: the whole table, no sign stage.
static sum_t weigh(const block_t tables, int q, vector_t vector) {
#pragma HLS INLINE
    sum_t sum = 0;
    for (int t = 0; t < TABLES; t++) {
#pragma HLS UNROLL
        const unsigned index = vector.range((t + 1) * INDEX_BITS - 1, t * INDEX_BITS);
        require(index < PATTERNS, "weights: index without a pattern");
        const entry_t entry = index == 0 ? entry_t(0) : tables[t][q][index];
        sum += entry;
    }
    return sum;
}
