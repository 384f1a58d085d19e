// Method M2: half the table, indices above it read the negative and change the sign.
static sum_t weigh(const block_t tables, int q, vector_t vector) {
#pragma HLS INLINE
    sum_t sum = 0;
    for (int t = 0; t < TABLES; t++) {
#pragma HLS UNROLL
        const unsigned index = vector.range((t + 1) * INDEX_BITS - 1, t * INDEX_BITS);
        require(index < PATTERNS, "weights: index without a pattern");
        const bool negative = index > BUILD_CYCLES;
        const unsigned address = negative ? index - BUILD_CYCLES : index;
        const entry_t entry = address == 0 ? entry_t(0) : tables[t][q][address];
        sum += negative ? sum_t(-entry) : sum_t(entry);
    }
    return sum;
}
