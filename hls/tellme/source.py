"""The ternary matmul engine as Vitis HLS C++ (docs/engine.md; paper section 3.1)."""

from importlib.resources import files
from math import ceil

from headrace.arch.tellme.engine import EngineSizes
from headrace.errors import InputError
from headrace.hls.csim import shim
from headrace.hls.emit import Code, Tree, constants, identifier, matrix, render
from headrace.hls.tellme.tables import patterns

__all__ = ["SOURCES", "TOP", "engine_tree", "template"]

TOP = identifier("ternary_matmul")
SOURCES = ("src/ternary_matmul.cpp", "tb/testbench.cpp")
_MAX_WINDOW_BITS = 4096  # AP_INT_MAX_W cannot be set higher


def template(name: str) -> str:
    """Return the text of a template of this package."""
    return files("headrace.hls.tellme").joinpath("templates", name).read_text("utf-8")


def _packed_vectors(sizes: EngineSizes) -> int:
    """Return the most vectors that one beat completes."""
    if sizes.packing == "beat":
        return sizes.vectors_per_beat
    return min(sizes.copies, (sizes.beat_bits + sizes.vector_bits - 1) // sizes.vector_bits)


def _store_passes(sizes: EngineSizes) -> int:
    return ceil(_packed_vectors(sizes) / sizes.banks)


def _check(sizes: EngineSizes) -> None:
    """Refuse sizes that C++ cannot express; rules of a point need no second check."""
    bits = max(sizes.beat_bits + sizes.vector_bits, sizes.copies * sizes.accumulator_bits)
    if bits > _MAX_WINDOW_BITS:
        raise InputError(
            f"beat + index vector or copies x accumulator_bits is {bits} bits wide, which is not "
            f"allowed: at most {_MAX_WINDOW_BITS} in HLS"
        )


def _constants(sizes: EngineSizes) -> Code:
    states = 3**sizes.group_size
    values = {
        "GROUP_SIZE": sizes.group_size,
        "TABLES": sizes.tables,
        "COPIES": sizes.copies,
        "PATTERNS": states,
        "INDEX_BITS": sizes.index_bits,
        "VECTOR_BITS": sizes.vector_bits,
        "ENTRY_BITS": sizes.entry_bits,
        "SUM_BITS": sizes.entry_bits + (sizes.tables - 1).bit_length(),
        "ACCUMULATOR_BITS": sizes.accumulator_bits,
        # Streams are whole bytes wide.
        "RESULT_BITS": 8 * ceil(sizes.copies * sizes.accumulator_bits / 8),
        "ACTIVATION_LANES": sizes.activation_lanes,
        "READ_CYCLES": sizes.read_cycles,
        "BEAT_BITS": sizes.beat_bits,
        "BANKS": sizes.banks,
        "SLOT_WORDS": sizes.slot_words,
        "WORDS_PER_GROUP": sizes.words_per_group,
        "STORE_PASSES": _store_passes(sizes),
        "MAX_GROUPS": sizes.max_groups,
    }
    if sizes.packing == "beat":
        values["VECTORS_PER_BEAT"] = sizes.vectors_per_beat
    else:
        values["BEATS_PER_GROUP"] = sizes.beats_per_group
    if sizes.method != "naive":
        values["BUILD_CYCLES"] = sizes.build_cycles
        values["ENTRIES"] = sizes.build_cycles + 1
    return constants(values)


def _method_code(sizes: EngineSizes) -> Code:
    parts = ["read_block.h"]
    if sizes.method != "naive":
        parts.append("method_tables.h")
    parts.append(f"method_{sizes.method}.h")
    texts = [template(part).strip("\n") for part in parts]
    return Code("\n\n".join(texts) + "\n")


def _packing_code(sizes: EngineSizes) -> Code:
    fill = render(template(f"packing_{sizes.packing}.h"), {"store_passes": _store_passes(sizes)})
    return Code(template("store.h") + "\n" + fill)


def _slots_code(sizes: EngineSizes) -> Code:
    if sizes.slots == 1:
        return Code(template("slots_one.h"))
    return Code(render(template("slots_many.h"), {"slots": sizes.slots}))


def _block_pragmas(sizes: EngineSizes) -> Code:
    if sizes.method == "naive":
        return Code("#pragma HLS ARRAY_PARTITION variable=block dim=0 complete\n")
    return Code(
        "#pragma HLS ARRAY_PARTITION variable=block dim=1 complete\n"
        "#pragma HLS ARRAY_PARTITION variable=block dim=2 complete\n"
        "#pragma HLS BIND_STORAGE variable=block type=ram_s2p impl=lutram\n"
    )


def _kernel(sizes: EngineSizes) -> str:
    # In a dataflow region an array between two processes becomes a ping-pong buffer.
    dataflow = "#pragma HLS DATAFLOW\n" if sizes.table_buffers == 2 else ""
    include = "#include <hls_streamofblocks.h>\n" if sizes.slots > 1 else ""
    return render(
        template("ternary_matmul.cpp"),
        {
            "top": TOP,
            "method": identifier(sizes.method),
            "packing": identifier(sizes.packing),
            "includes": Code(include),
            "method_code": _method_code(sizes),
            "packing_code": _packing_code(sizes),
            "slots_code": _slots_code(sizes),
            "dataflow": Code(dataflow),
            "block_pragmas": _block_pragmas(sizes),
            "lookup_cycles": sizes.lookup_cycles,
            "max_groups": sizes.max_groups,
        },
    )


def engine_tree(sizes: EngineSizes) -> Tree:
    """Return kernel, test bench and simulation headers of the engine of `sizes`.

    The index table in ``src/sizes.h`` is derived here, so that a weight image packed elsewhere
    meets an independent reading of the index order.

    Raises
    ------
    InputError
        A word is wider than HLS allows.
    """
    _check(sizes)
    tree = shim()
    table = {"constants": _constants(sizes), "patterns": matrix(patterns(sizes.group_size))}
    tree.add("src/sizes.h", render(template("sizes.h"), table))
    tree.add("src/ternary_matmul.h", render(template("ternary_matmul.h"), {"top": TOP}))
    tree.add("src/ternary_matmul.cpp", _kernel(sizes))
    tree.add("tb/testbench.cpp", render(template("testbench.cpp"), {"top": TOP}))
    return tree
