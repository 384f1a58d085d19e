// Run the kernel on a file of words and compare.
//
//   testbench [vectors.txt [results.txt]]
//
// The file: "commands" and how many; for every input port or memory its name, the number of words
// and the words in hexadecimal; for every output port the same with the words to compare with, or 0.
// Exit code: 0 all equal, 1 a difference, 2 a bad file, 3 the kernel broke a rule.
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

#include "../src/@top@.h"

namespace {

// A file that cannot be used, in contrast to a rule that the kernel broke.
struct bad_file : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

template <typename T>
T next(std::istream& file) {
    T value;
    if (!(file >> value)) throw bad_file("file ends too early or holds no number");
    return value;
}

unsigned next_count(std::istream& file, const std::string& name) {
    const std::string found = next<std::string>(file);
    if (found != name) throw bad_file("'" + name + "' expected");
    return next<unsigned>(file);
}

template <int BITS>
ap_uint<BITS> from_hex(const std::string& text) {
    if (4 * text.size() > BITS) throw bad_file("more bits than the port has: " + text);
    const std::string digits = "0123456789abcdef";
    ap_uint<BITS> value = 0;
    int at = 4 * static_cast<int>(text.size());
    for (char digit : text) {
        const std::size_t nibble = digits.find(digit);
        if (nibble == std::string::npos)
            throw bad_file("not a lower-case hexadecimal number: " + text);
        at -= 4;
        value.range(at + 3, at) = nibble;
    }
    return value;
}

template <int BITS>
std::string to_hex(const ap_uint<BITS>& value) {
    std::string text;
    for (int at = BITS - 4; at >= 0; at -= 4)
        text += "0123456789abcdef"[value.range(at + 3, at).to_uint()];
    return text;
}

template <int BITS>
void feed(std::istream& file, const char* name, hls::stream<ap_uint<BITS> >& port) {
    const unsigned count = next_count(file, name);
    for (unsigned i = 0; i < count; i++) port.write(from_hex<BITS>(next<std::string>(file)));
}

// A memory: the words that the file does not have are zero.
template <int BITS, unsigned WORDS>
void feed(std::istream& file, const char* name, ap_uint<BITS> (&memory)[WORDS]) {
    const unsigned count = next_count(file, name);
    if (count > WORDS) throw bad_file("more words than the memory has");
    for (unsigned i = 0; i < count; i++) memory[i] = from_hex<BITS>(next<std::string>(file));
}

template <int BITS>
void check_empty(const char* name, hls::stream<ap_uint<BITS> >& port) {
    if (!port.empty())
        throw std::runtime_error(std::string("words left over in stream '") + name + "'");
}

struct Tally {
    unsigned compared, differ;
};

// Write the words of an output and count those that are not as expected.
template <int BITS>
void drain(std::istream& file, std::ostream& output, const char* name,
           hls::stream<ap_uint<BITS> >& port, Tally& tally) {
    const unsigned expected = next_count(file, name);
    const unsigned count = port.size();
    if (expected != 0 && expected != count) {
        tally.differ++;
        std::cerr << name << ": " << count << " words, expected " << expected << "\n";
    }
    output << name << " " << count << "\n";
    for (unsigned i = 0; i < count; i++) {
        const ap_uint<BITS> word = port.read();
        output << to_hex<BITS>(word) << "\n";
        if (i >= expected) continue;
        const ap_uint<BITS> wanted = from_hex<BITS>(next<std::string>(file));
        tally.compared++;
        if (word == wanted) continue;
        if (tally.differ++ < 5)
            std::cerr << name << " " << i << ": " << to_hex<BITS>(word) << ", expected "
                      << to_hex<BITS>(wanted) << "\n";
    }
    for (unsigned i = count; i < expected; i++) next<std::string>(file);
}

bool run(std::istream& file, std::ostream& output) {
    const unsigned commands = next_count(file, "commands");
@streams@
@feeds@
    @top@(commands, @arguments@);
@checks@
    Tally tally = {0, 0};
@drains@
    std::cout << tally.compared << " words compared, " << tally.differ << " differ\n";
    return tally.differ == 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string path = argc > 1 ? argv[1] : "vectors.txt";
    try {
        std::ifstream file(path.c_str());
        if (!file) throw bad_file("cannot be opened");
        std::ofstream output;
        if (argc > 2) output.open(argv[2]);
        const bool equal = run(file, output);
        output.flush();
        if (argc > 2 && !output) throw bad_file("the results cannot be written");
        return equal ? 0 : 1;
    } catch (const bad_file& error) {
        std::cerr << path << ": " << error.what() << "\n";
        return 2;
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 3;
    }
}
