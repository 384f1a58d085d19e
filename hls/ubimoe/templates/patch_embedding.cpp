// Patch embedding: pixels to features, and the positions added; row 0 is the class token with its
// position. Rule 7 of docs/ubimoe-numerics.md.
#include "@top@.h"

#include "fields.h"
#include "narrow.h"

typedef ap_uint<32 * TILE_OUT> sums_t;  // wide values
// Memories keep the beats as they come.
typedef weights_t biases_t[OUT_TILES][BIAS_BEATS];
typedef weights_t tiles_t[OUT_TILES * IN_TILES][TILE_BEATS];

// All biases, then the tiles, output tile major, input tile minor.
static void load_weights(hls::stream<weights_t>& weights, biases_t biases, tiles_t tiles) {
biases:
    for (unsigned tile = 0; tile < OUT_TILES; tile++) {
        for (unsigned beat = 0; beat < BIAS_BEATS; beat++) {
#pragma HLS PIPELINE II=1
            biases[tile][beat] = weights.read();
        }
    }
tiles:
    for (unsigned tile = 0; tile < OUT_TILES * IN_TILES; tile++) {
        for (unsigned beat = 0; beat < TILE_BEATS; beat++) {
#pragma HLS PIPELINE II=1
            tiles[tile][beat] = weights.read();
        }
    }
}

static void read_patch(hls::stream<pixels_t>& pixels, pixels_t patch[IN_TILES]) {
beats:
    for (unsigned in = 0; in < IN_TILES; in++) {
#pragma HLS PIPELINE II=1
        patch[in] = pixels.read();
    }
}

// One weight tile per cycle; every product is shifted on its own.
static void multiply_patch(const pixels_t patch[IN_TILES], const biases_t biases,
                           const tiles_t tiles, hls::stream<sums_t>& sums) {
    wide_t sum[TILE_OUT];
#pragma HLS ARRAY_PARTITION variable=sum complete
    unsigned in = 0;
    unsigned out = 0;
steps:
    for (unsigned step = 0; step < OUT_TILES * IN_TILES; step++) {
#pragma HLS PIPELINE II=1
        sums_t packed = 0;
        for (int p = 0; p < TILE_OUT; p++) {
#pragma HLS UNROLL
            const wide_t bias = wide_t(field<16>(biases[out], p))
                                << (WIDE_FRACTION - BIAS_FRACTION);
            wide_t part = 0;
            for (int q = 0; q < TILE_IN; q++) {
#pragma HLS UNROLL
                const ap_uint<PIXEL_BITS> pixel =
                    patch[in].range((q + 1) * PIXEL_BITS - 1, q * PIXEL_BITS);
                const ap_int<PATCH_WEIGHT_BITS> weight =
                    field<PATCH_WEIGHT_BITS>(tiles[step], p * TILE_IN + q);
                part += shifted<PATCH_SHIFT>(
                    ap_int<PIXEL_BITS + PATCH_WEIGHT_BITS + 1>(pixel * weight));
            }
            sum[p] = part + (in == 0 ? bias : sum[p]);
            put_at<WIDE_BITS>(packed, p, sum[p]);
        }
        in++;
        if (in == IN_TILES) {
            in = 0;
            out++;
            sums.write(packed);
        }
    }
}

// In the dataflow region the patch becomes two: the next one is read while one is multiplied.
static void embed_patches(unsigned patches, const biases_t biases, const tiles_t tiles,
                          hls::stream<pixels_t>& pixels, hls::stream<sums_t>& sums) {
patches:
    for (unsigned count = 0; count < patches; count++) {
#pragma HLS DATAFLOW
        pixels_t patch[IN_TILES];
        read_patch(pixels, patch);
        multiply_patch(patch, biases, tiles, sums);
    }
}

static void add_positions(unsigned patches, hls::stream<positions_t>& positions,
                          hls::stream<sums_t>& sums, hls::stream<results_t>& results) {
rows:
    for (unsigned row = 0; row <= patches; row++) {
        for (unsigned out = 0; out < OUT_TILES; out++) {
#pragma HLS PIPELINE II=1
            const positions_t position = positions.read();
            sums_t beat = 0;
            if (row != 0) beat = sums.read();
            results_t packed = 0;
            for (int p = 0; p < TILE_OUT; p++) {
#pragma HLS UNROLL
                const feature_t embedded =
                    signed_at<WIDE_BITS>(beat, p) >> (WIDE_FRACTION - FEATURE_FRACTION);
                const feature_t place = signed_at<FEATURE_BITS>(position, p);
                put_at<FEATURE_BITS>(packed, p, feature_t(embedded + place));
            }
            results.write(packed);
        }
    }
}

static void run(unsigned patches, const biases_t biases, const tiles_t tiles,
                hls::stream<pixels_t>& pixels, hls::stream<positions_t>& positions,
                hls::stream<results_t>& results) {
#pragma HLS DATAFLOW
    hls::stream<sums_t> sums("sums");
#pragma HLS STREAM variable=sums depth=@sum_depth@
    embed_patches(patches, biases, tiles, pixels, sums);
    add_positions(patches, positions, sums, results);
}

static void work(ap_uint<32> commands,
    @arguments@) {
    static biases_t biases;
    static tiles_t tiles;
#pragma HLS ARRAY_PARTITION variable=biases dim=2 complete
#pragma HLS ARRAY_PARTITION variable=tiles dim=2 complete
    for (unsigned i = 0; i < commands; i++) {
        const unsigned patches = ap_uint<16>(command.read());
        require(patches + 1 <= MAX_TOKENS, "command: too many patches");
        load_weights(weights, biases, tiles);
        run(patches, biases, tiles, pixels, positions, results);
    }
}
