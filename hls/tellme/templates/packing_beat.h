// Fill a slot: whole vectors from bit 0 of every beat, the norm weight above them is not ours.
static void load_tile(hls::stream<load_t>& load, hls::stream<beat_t>& weights, slot_t slot) {
    const load_t command = load.read();
    const unsigned rows = command.range(15, 0);
    const unsigned groups = command.range(31, 16);
    require(1ULL * rows * groups * WORDS_PER_GROUP <= SLOT_WORDS, "load: tile exceeds the slot");
    unsigned word = 0;
rows:
    for (unsigned row = 0; row < rows; row++) {
        unsigned bank = 0;
    beats:
        for (unsigned left = groups * COPIES; left > 0;) {
#pragma HLS PIPELINE II=@store_passes@
            const window_t window = weights.read();
            const unsigned count = left < VECTORS_PER_BEAT ? left : unsigned(VECTORS_PER_BEAT);
            store(slot, window, count, bank, word);
            word += (bank + count) / BANKS;
            bank = (bank + count) % BANKS;
            left -= count;
        }
    }
}
