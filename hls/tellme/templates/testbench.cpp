// Run the engine on a file of vectors and compare every accumulator.
//
//   testbench [vectors.txt [results.txt]]
//
// Exit code: 0 all equal, 1 a difference, 2 a bad file, 3 the engine broke a rule.
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../src/ternary_matmul.h"

namespace {

struct Tile {
    unsigned load_rows, load_groups, rows, groups, stride, tokens;
    std::vector<std::string> beats, transfers;
    std::vector<long long> expected;  // empty: nothing to compare
};

template <int BITS>
ap_uint<BITS> from_hex(const std::string& text) {
    ap_uint<BITS> value = 0;
    for (char digit : text) {
        int nibble;
        if (digit >= '0' && digit <= '9') nibble = digit - '0';
        else if (digit >= 'a' && digit <= 'f') nibble = digit - 'a' + 10;
        else throw std::invalid_argument("not a lower-case hexadecimal number: " + text);
        if (BITS > 4 ? (value >> (BITS > 4 ? BITS - 4 : 0)) != 0 : value != 0)
            throw std::invalid_argument("more bits than the port has: " + text);
        value = (value << 4) | nibble;
    }
    return value;
}

template <typename T>
T next(std::istream& file) {
    T value;
    if (!(file >> value)) throw std::invalid_argument("file ends too early or holds no number");
    return value;
}

Tile read_tile(std::istream& file) {
    if (next<std::string>(file) != "tile") throw std::invalid_argument("'tile' expected");
    Tile tile;
    tile.load_rows = next<unsigned>(file);
    tile.load_groups = next<unsigned>(file);
    tile.rows = next<unsigned>(file);
    tile.groups = next<unsigned>(file);
    tile.stride = next<unsigned>(file);
    tile.tokens = next<unsigned>(file);
    const unsigned beats = next<unsigned>(file);
    const unsigned transfers = next<unsigned>(file);
    const unsigned results = next<unsigned>(file);
    if (results != 0 && results != tile.tokens * tile.groups * COPIES)
        throw std::invalid_argument("results must be 0 or tokens x groups x copies");
    for (unsigned i = 0; i < beats; i++) tile.beats.push_back(next<std::string>(file));
    for (unsigned i = 0; i < transfers; i++) tile.transfers.push_back(next<std::string>(file));
    for (unsigned i = 0; i < results; i++) tile.expected.push_back(next<long long>(file));
    return tile;
}

std::vector<Tile> read_tiles(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::invalid_argument("cannot be opened");
    if (next<std::string>(file) != "tiles") throw std::invalid_argument("'tiles' expected");
    const unsigned count = next<unsigned>(file);
    std::vector<Tile> tiles;
    for (unsigned i = 0; i < count; i++) tiles.push_back(read_tile(file));
    return tiles;
}

// Compare one token's groups, copy them to `output`; return the number of differences.
int check(const Tile& tile, hls::stream<results_t>& results, std::ostream& output) {
    int differences = 0;
    std::size_t at = 0;
    for (unsigned transfer = 0; transfer < tile.tokens * tile.groups; transfer++) {
        if (results.empty()) throw std::runtime_error("too few results");
        const results_t packed = results.read();
        for (int q = 0; q < COPIES; q++, at++) {
            accumulator_t sum;
            sum.range(ACCUMULATOR_BITS - 1, 0) =
                packed.range((q + 1) * ACCUMULATOR_BITS - 1, q * ACCUMULATOR_BITS);
            output << (q ? " " : "") << sum.to_int64();
            if (!tile.expected.empty() && sum.to_int64() != tile.expected[at]) {
                if (differences++ < 5)
                    std::cerr << "accumulator " << at << ": " << sum.to_int64() << ", expected "
                              << tile.expected[at] << "\n";
            }
        }
        output << "\n";
    }
    return differences;
}

int run(const std::vector<Tile>& tiles, std::ostream& output) {
    hls::stream<load_t> load("load");
    hls::stream<compute_t> compute("compute");
    hls::stream<beat_t> weights("weights");
    hls::stream<lanes_t> activations("activations");
    hls::stream<results_t> results("results");
    for (const Tile& tile : tiles) {
        load.write((load_t(tile.load_groups) << 16) | tile.load_rows);
        compute.write((compute_t(tile.tokens) << 48) | (compute_t(tile.stride) << 32) |
                      (compute_t(tile.groups) << 16) | tile.rows);
        for (const std::string& beat : tile.beats) weights.write(from_hex<BEAT_BITS>(beat));
        for (const std::string& lanes : tile.transfers)
            activations.write(from_hex<8 * ACTIVATION_LANES>(lanes));
    }
    @top@(tiles.size(), load, compute, weights, activations, results);
    if (!weights.empty()) throw std::runtime_error("beats left over in stream 'weights'");
    if (!activations.empty())
        throw std::runtime_error("transfers left over in stream 'activations'");
    int differences = 0;
    std::size_t compared = 0;
    for (const Tile& tile : tiles) {
        differences += check(tile, results, output);
        compared += tile.expected.size();
    }
    if (!results.empty()) throw std::runtime_error("results left over in stream 'results'");
    std::cout << compared << " accumulators compared, " << differences << " differ\n";
#ifdef HEADRACE_STREAM_SHIM
    std::cout << "largest occupancy: weights " << weights.max_occupancy() << ", activations "
              << activations.max_occupancy() << ", results " << results.max_occupancy() << "\n";
#endif
    return differences;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string path = argc > 1 ? argv[1] : "vectors.txt";
    std::vector<Tile> tiles;
    try {
        tiles = read_tiles(path);
    } catch (const std::exception& error) {
        std::cerr << path << ": " << error.what() << "\n";
        return 2;
    }
    try {
        std::ofstream output;
        if (argc > 2) output.open(argv[2]);
        const bool equal = run(tiles, output) == 0;
        output.flush();
        if (argc > 2 && !output) {
            std::cerr << argv[2] << ": cannot be written\n";
            return 2;
        }
        return equal ? 0 : 1;
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 3;
    }
}
