// Fill a slot: the Q vectors of an output group as one bit string over BEATS_PER_GROUP beats.
static void load_tile(hls::stream<load_t>& load, hls::stream<beat_t>& weights, slot_t slot) {
    const load_t command = load.read();
    const unsigned rows = command.range(15, 0);
    const unsigned groups = command.range(31, 16);
    require(1ULL * rows * groups * WORDS_PER_GROUP <= SLOT_WORDS, "load: tile exceeds the slot");
    unsigned word = 0;
groups:
    for (unsigned group = 0; group < rows * groups; group++) {
        window_t window = 0;
        unsigned held_bits = 0;
        unsigned left = COPIES;
        unsigned bank = 0;
    beats:
        for (int beat = 0; beat < BEATS_PER_GROUP; beat++) {
#pragma HLS PIPELINE II=@store_passes@
            window |= window_t(weights.read()) << held_bits;
            held_bits += BEAT_BITS;
            const unsigned whole = held_bits / VECTOR_BITS;
            const unsigned count = whole < left ? whole : left;
            store(slot, window, count, bank, word);
            word += (bank + count) / BANKS;
            bank = (bank + count) % BANKS;
            window >>= count * VECTOR_BITS;
            held_bits -= count * VECTOR_BITS;
            left -= count;
        }
    }
}
