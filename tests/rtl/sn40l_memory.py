"""A memory unit in plain Python, and random programs for it."""

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from headrace.arch.sn40l.memory_program import MemoryProgram
from headrace.arch.sn40l.memory_unit import MemoryUnitSizes
from headrace.rtl.streams import StreamVectors

INPUTS = ("write", "read", "packets")
OUTPUTS = ("results", "written", "drained")


def drawn_sizes(rng):
    banks, depth = rng.choice([2, 4, 8]), rng.choice([2, 8, 32])
    place_bits = (banks * depth - 1).bit_length()
    return MemoryUnitSizes(
        banks=banks,
        word_bits=rng.choice([1, 5, 8, 16]),
        depth=depth,
        levels=rng.randint(1, 4),
        sequence_bits=rng.choice([1, 4, 9]),
        address_bits=place_bits + rng.choice([1, 2, 5]),
    )


def drawn_program(sizes, rng, most=12, **given):
    """Draw a program of up to so many vectors a run, whatever it hits."""
    half = 1 << sizes.address_bits - 1
    levels = rng.randint(1, sizes.levels)
    counts = [1] * levels
    for level in range(levels):
        counts[level] = rng.randint(1, max(1, most // _product(counts)))
    rng.shuffle(counts)
    shift = rng.randint(0, sizes.row_bits)
    stripes = [s for s in range(sizes.place_bits) if abs(s - shift) >= sizes.bank_bits]
    near = [0, 1, sizes.banks, -1, 3, sizes.banks + 1, 2 * sizes.banks]
    drawn: dict[str, Any] = {
        "counts": tuple(counts),
        "strides": tuple(_stride(near, half, rng) for _ in counts),
        "base": rng.choice([0, rng.randrange(-half, half), rng.randrange(sizes.words)]),
        "lane_stride": _stride(near, half, rng),
        "sequence_stride": _stride(near, half, rng),
        "limit": rng.choice([sizes.words, rng.randint(0, sizes.words)]),
        "origin": rng.randrange(sizes.words),
        "runs": rng.choice([1, 1, 2, 3]),
        "flip": rng.choice([0, sizes.words // 2, rng.randrange(sizes.words)]),
        "bank_shift": rng.choice([0, shift]),
        "stripe_shift": None,
    }
    if rng.random() < 0.5 and stripes:
        drawn |= {"bank_shift": shift, "stripe_shift": rng.choice(stripes)}
    return MemoryProgram(**{**drawn, **given})


def _stride(near, half, rng):
    return rng.randrange(-half, half) if rng.random() < 0.2 else max(-half, rng.choice(near) % half)


def _product(numbers):
    value = 1
    for number in numbers:
        value *= number
    return value


@dataclass
class Reference:
    """Words of the banks, and the streams of the commands so far.

    Addresses are counted one by one, and a place is a bank and a row as its bits say.
    """

    sizes: MemoryUnitSizes
    words: dict = field(default_factory=dict)
    streams: dict = field(default_factory=lambda: {name: [] for name in INPUTS + OUTPUTS})
    rounds: dict = field(default_factory=lambda: {"write": [], "read": []})
    programs: dict = field(default_factory=lambda: {"write": [], "read": []})

    def write(self, program, packets):
        """Add a write command and its packets, of all runs: (words, sequence)."""
        self._begin("write", program)
        queue = iter(packets)
        for run in range(program.runs):
            self._write_run(program, run, queue)

    def read(self, program):
        """Add a read command; return the vectors of all runs."""
        self._begin("read", program)
        return [self._read_run(program, run) for run in range(program.runs)]

    def exchange(self, write, packets, read):
        """Add two buffered commands, of as many runs, each of which is read when it is written."""
        self._begin("write", write)
        self._begin("read", read)
        queue = iter(packets)
        for run in range(write.runs):
            self._write_run(write, run, queue)
            self._read_run(read, run)

    def _begin(self, port, program):
        self.streams[port].append(encoded(self.sizes, program, sequenced=port == "write"))
        self.rounds[port].append([])
        self.programs[port].append(program)

    def _write_run(self, program, run, queue):
        for first in self._firsts(program):
            words, sequence = next(queue)
            self.streams["packets"].append(self._packet(words, sequence))
            places = self._places(program, run, first + sequence * program.sequence_stride)
            for place, word in zip(places, words, strict=True):
                if place is not None:
                    self.words[place] = word
            self.rounds["write"][-1].append(_rounds(places))
        self.streams["written"].append(int(run == program.runs - 1))

    def _read_run(self, program, run):
        vectors = []
        for number, first in enumerate(self._firsts(program)):
            places = self._places(program, run, first)
            vectors.append([0 if p is None else self.words.get(p, 0) for p in places])
            sequence = number % (1 << self.sizes.sequence_bits)
            self.streams["results"].append(self._packet(vectors[-1], sequence))
            self.rounds["read"][-1].append(_rounds(places))
        self.streams["drained"].append(int(run == program.runs - 1))
        return vectors

    def vectors(self, **more):
        return StreamVectors(
            {name: self.streams[name] for name in INPUTS},
            {name: self.streams[name] for name in OUTPUTS},
            **more,
        )

    def _firsts(self, program):
        """Count the outermost counter slowest."""
        for indices in product(*(range(count) for count in reversed(program.counts))):
            steps = zip(reversed(indices), program.strides, strict=True)
            yield program.base + sum(index * stride for index, stride in steps)

    def _places(self, program, run, first):
        """Return (bank, row) for each lane, or None."""
        places = []
        for lane in range(self.sizes.banks):
            address = (first + lane * program.lane_stride) % (1 << self.sizes.address_bits)
            if address >= program.limit:
                places.append(None)
                continue
            origin = program.origin ^ program.flip if run % 2 else program.origin
            places.append(self._bank_and_row(program, (origin + address) % self.sizes.words))
        return places

    def _bank_and_row(self, program, place):
        bits = [place >> i & 1 for i in range(self.sizes.place_bits)]
        here, width = program.bank_shift, self.sizes.bank_bits
        bank = _number(bits[here : here + width])
        if program.stripe_shift is not None:
            bank += _number(bits[program.stripe_shift : program.stripe_shift + width])
        return bank % self.sizes.banks, _number(bits[:here] + bits[here + width :])

    def _packet(self, words, sequence):
        bits = self.sizes.word_bits
        value = sum(word << lane * bits for lane, word in enumerate(words))
        return value | sequence << self.sizes.banks * bits


def _number(bits):
    return sum(bit << i for i, bit in enumerate(bits))


def _rounds(places):
    banks = [place[0] for place in places if place is not None]
    return max([1, *(banks.count(bank) for bank in banks)])


def encoded(sizes, program, *, sequenced):
    """Return a command's payload: its fields side by side, as the manual lists them."""
    address, place, shift = sizes.address_bits, sizes.place_bits, sizes.shift_bits
    levels = sizes.levels
    widths = [address] * (1 + levels) + [16] * levels + [address, place + 1, place, place, 16]
    widths += [shift, shift, 1, 1] + [address] * sequenced
    spare = [0] * (levels - len(program.counts))
    values = [program.base, *program.strides, *spare]
    values += [*(count - 1 for count in program.counts), *spare]
    values += [program.lane_stride, program.limit, program.origin, program.flip]
    values += [program.runs - 1, program.bank_shift, program.stripe_shift or 0]
    values += [program.stripe_shift is not None, program.buffered]
    values += [program.sequence_stride] * sequenced
    payload, lowest = 0, 0
    for value, width in zip(values, widths, strict=True):
        payload |= (int(value) & (1 << width) - 1) << lowest
        lowest += width
    return payload


def drawn_packets(sizes, program, rng):
    word, sequence = 1 << sizes.word_bits, 1 << sizes.sequence_bits
    return [
        ([rng.randrange(word) for _ in range(sizes.banks)], rng.randrange(sequence))
        for _ in range(program.runs * program.vectors)
    ]


def drawn_halves(sizes, rng, runs, half, most=12):
    """Draw a program whose runs are in one half of the rows after the other."""
    words = sizes.words // 2
    offset = rng.choice([0, rng.randrange(words)])
    program = drawn_program(
        sizes,
        rng,
        most,
        limit=rng.choice([words - offset, rng.randint(0, words - offset)]),
        origin=half * words + offset,
        flip=words,
        runs=runs,
        buffered=True,
    )
    shift = min(program.bank_shift, sizes.row_bits - 1)
    stripe = program.stripe_shift
    if stripe is not None and abs(stripe - shift) < sizes.bank_bits:
        stripe = None
    return replace(program, bank_shift=shift, stripe_shift=stripe)


def drawn_exchanges(sizes, rng, count, most=12):
    """Draw commands that need no order from outside, and their reference.

    Some pairs of programs stay in the halves of their runs. Others go anywhere: between their
    commands are empty ones, so that neither begins before the other is done.
    """
    reference, run = Reference(sizes), 0
    for _ in range(count):
        if rng.random() < 0.6:
            runs = rng.randint(1, 4)
            write, read = (drawn_halves(sizes, rng, runs, run % 2, most) for _ in range(2))
        else:
            free = {"runs": 1, "buffered": True}
            write, read = (drawn_program(sizes, rng, most, **free) for _ in range(2))
            reference.exchange(*_nothing(sizes, rng))
            run += 1
        reference.exchange(write, drawn_packets(sizes, write, rng), read)
        run += write.runs
        reference.exchange(*_nothing(sizes, rng))
        run += 1
    return reference


def _nothing(sizes, rng):
    program = drawn_program(sizes, rng, 1, runs=1, limit=0, buffered=True)
    return program, drawn_packets(sizes, program, rng), program
