// Write the lowest `count` vectors of the window; the first one goes to (bank, word) and the
// rest to the banks after it. Every bank takes at most one vector per pass.
static void store(slot_t slot, const window_t& window, unsigned count, unsigned bank,
                  unsigned word) {
#pragma HLS INLINE
passes:
    for (int pass = 0; pass < STORE_PASSES; pass++) {
#pragma HLS UNROLL
        for (int b = 0; b < BANKS; b++) {
#pragma HLS UNROLL
            const unsigned i = pass * BANKS + (b + BANKS - bank) % BANKS;
            if (i < count)
                slot[b][word + (bank + i) / BANKS] =
                    window.range((i + 1) * VECTOR_BITS - 1, i * VECTOR_BITS);
        }
    }
}
