// Prefetch: the weight images of jobs, striped over memory ports: word p of every beat comes
// through port p. Ports: docs/ubimoe-kernels.md.
#include "@top@.h"

#include "functions.h"

typedef port0_t word_t;

// Words of a port that follow each other.
struct Span {
    unsigned long long first;
    unsigned words;
};

// Tiles at the input and the output of each image of a job.
static const ap_uint<16> LOADS[IMAGES][2] = @loads@;

// A job is as many words of every port; what the linear is to load is known without it.
static void split_jobs(unsigned jobs_in_all, hls::stream<jobs_t>& jobs,
                       hls::stream<Span> spans[PORTS], hls::stream<unsigned>& beats,
                       hls::stream<load_t>& load) {
jobs:
    for (unsigned count = 0; count < jobs_in_all; count++) {
        const jobs_t job = jobs.read();
        const ap_uint<8> expert = job.range(7, 0);
        const ap_uint<32> stride = job.range(39, 8);
        const unsigned words = job.range(71, 40);
        // In bursts: the bits below are taken as zero.
        const ap_uint<ADDRESS_BITS> place = expert * ap_uint<32>(stride >> BURST_SHIFT);
        for (int port = 0; port < PORTS; port++) {
#pragma HLS UNROLL
            const int low = 72 + ADDRESS_BITS * port;
            const ap_uint<ADDRESS_BITS> base = job.range(low + ADDRESS_BITS - 1, low);
            const ap_uint<ADDRESS_BITS> burst = (base >> BURST_SHIFT) + place;
            Span span;
            span.first = burst.to_uint64() * BURST_WORDS;
            span.words = words;
            require(span.first + words <= MEMORY_WORDS, "jobs: an image beyond the memory");
            spans[port].write(span);
        }
        beats.write(words);
        for (int image = 0; image < IMAGES; image++) {
#pragma HLS PIPELINE II=1
            load_t command = LOADS[image][0];
            command.range(31, 16) = LOADS[image][1];
            load.write(command);
        }
    }
}

// Each port runs ahead of the others as far as its stream has room.
static void read_port(unsigned jobs_in_all, hls::stream<Span>& spans, const word_t* memory,
                      hls::stream<word_t>& words) {
jobs:
    for (unsigned count = 0; count < jobs_in_all; count++) {
        const Span span = spans.read();
    burst:
        for (unsigned i = 0; i < span.words; i++) {
#pragma HLS PIPELINE II=1
            words.write(memory[span.first + i]);
        }
    }
}

static void join_words(unsigned jobs_in_all, hls::stream<unsigned>& beats,
                       hls::stream<word_t> words[PORTS], hls::stream<weights_t>& weights) {
jobs:
    for (unsigned count = 0; count < jobs_in_all; count++) {
        const unsigned left = beats.read();
    beats:
        for (unsigned i = 0; i < left; i++) {
#pragma HLS PIPELINE II=1
            weights_t beat = 0;
            for (int port = 0; port < PORTS; port++) {
#pragma HLS UNROLL
                beat.range((port + 1) * PORT_BITS - 1, port * PORT_BITS) = words[port].read();
            }
            weights.write(beat);
        }
    }
}

// The bursts of a job follow those of the one before without a gap; only full streams hold them.
static void run(unsigned jobs_in_all, hls::stream<jobs_t>& jobs,
                @memories@,
                hls::stream<load_t>& load, hls::stream<weights_t>& weights) {
#pragma HLS DATAFLOW
    hls::stream<Span> spans[PORTS];
    hls::stream<unsigned> beats("beats");
    hls::stream<word_t> words[PORTS];
#pragma HLS STREAM variable=words depth=@buffer_beats@
    split_jobs(jobs_in_all, jobs, spans, beats, load);
@reads@
    join_words(jobs_in_all, beats, words, weights);
}

static void work(ap_uint<32> commands,
    @arguments@) {
    run(commands, jobs, @names@, load, weights);
}
