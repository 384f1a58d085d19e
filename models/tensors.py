"""Read tensors from safetensors files that nobody has vouched for."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from headrace.errors import InputError
from headrace.models.json_file import read_json_object

__all__ = ["TensorFile", "TensorFolder"]

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_INDEX_BYTES = 16 << 20
MAX_HEADER_BYTES = 8 << 20
"""Some 80,000 tensors; a shard of the largest checkpoints has a few thousand."""

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")
_NUMPY_TYPES: dict[str, Any] = {
    "U8": np.dtype("<u1"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: its bits
    "F32": np.dtype("<f4"),
}
_FLOATS = ("F16", "BF16", "F32")


class TensorFile:
    """One safetensors file: checked by the safetensors library, read by memory map.

    Parameters
    ----------
    path : Path
        A regular file (a link to one will do).

    Attributes
    ----------
    names : frozenset of str
        The names of all tensors.

    Raises
    ------
    InputError
        Not a readable safetensors file: truncated, header too large or beyond the file, tensors
        that overlap, leave holes or do not fit their shape.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not path.is_file():
                found = "it is not a regular file" if path.exists() else "no such file"
                raise InputError(f"cannot read {path}: {found}")
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                # the library reads headers of 100 MB, which take seconds and a gigabyte
                if length > MAX_HEADER_BYTES:
                    raise InputError(
                        f"{path}: not a sound safetensors file: header of {length} bytes; at "
                        f"most {MAX_HEADER_BYTES} are accepted"
                    )
                # opening checks lengths, offsets, overlaps, types and shapes; only then is the
                # header read again for the offsets, which the library does not tell
                with safe_open(path, framework="numpy"):
                    self._header = json.loads(file.read(length))
            self._data = np.memmap(path, dtype=np.uint8, mode="r")
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except InputError:
            raise
        except (SafetensorError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: not a sound safetensors file: {reason}") from error
        self._begin = 8 + length
        self._header.pop("__metadata__", None)
        self.names = frozenset(self._header)

    def dtype(self, name: str) -> str:
        """Return the type of a tensor as safetensors spells it, e.g. ``BF16``."""
        return str(self._header[name]["dtype"])

    def read(
        self, name: str, shape: tuple[int, ...], dtypes: tuple[str, ...]
    ) -> NDArray[np.generic]:
        """Return a tensor as a read-only view; bfloat16 comes as its uint16 bits.

        Raises
        ------
        InputError
            Its shape or type is another.
        """
        entry = self._header[name]
        if tuple(entry["shape"]) != shape:
            raise InputError(
                f"{self.path}: {name} has shape {entry['shape']}; {list(shape)} is needed"
            )
        if entry["dtype"] not in dtypes:
            raise InputError(
                f"{self.path}: {name} has type {entry['dtype']}; one of {', '.join(dtypes)} "
                "is needed"
            )
        begin, end = (self._begin + offset for offset in entry["data_offsets"])
        kind: np.dtype[np.generic] = _NUMPY_TYPES[entry["dtype"]]
        return np.frombuffer(self._data[begin:end], dtype=kind).reshape(shape)


class TensorFolder:
    """The tensors of a checkpoint folder, in one file or in shards with an index.

    Parameters
    ----------
    folder : Path
        Holds ``model.safetensors``, or ``model.safetensors.index.json`` and the shards it names.

    Raises
    ------
    InputError
        Neither is there (pickles are refused: they can run code), or one is not acceptable.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / SINGLE_FILE).exists() or not (folder / INDEX_FILE).exists():
            self._refuse_pickles()
            file = TensorFile(folder / SINGLE_FILE)
            self._files = dict.fromkeys(file.names, file)
        else:
            self._files = _open_shards(folder / INDEX_FILE)

    def _refuse_pickles(self) -> None:
        if (self.folder / SINGLE_FILE).exists():
            return
        for path in sorted(self.folder.iterdir()):
            if path.suffix in _PICKLES:
                raise InputError(
                    f"{path}: pickled weights can run code and are never read; convert them to "
                    f"{SINGLE_FILE}"
                )

    def find(self, *names: str) -> str:
        """Return the first of some alternative names that is there; raise `InputError` if none."""
        for name in names:
            if name in self._files:
                return name
        raise InputError(f"{self.folder}: tensor {' or '.join(names)} is missing")

    def dtype(self, name: str) -> str:
        """Return the type of a tensor as safetensors spells it."""
        return self._files[self.find(name)].dtype(name)

    def where(self, name: str) -> Path:
        """Return the file that holds a tensor."""
        return self._files[self.find(name)].path

    def floats(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return an F32, F16 or BF16 tensor as float32, exactly; every value must be finite."""
        file = self._files[self.find(name)]
        raw = file.read(name, shape, _FLOATS)
        if file.dtype(name) == "BF16":
            values = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            values = raw.astype(np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"{file.path}: {name} holds NaN or infinity; finite values are needed")
        return values

    def bytes(self, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return a U8 tensor."""
        file = self._files[self.find(name)]
        return file.read(name, shape, ("U8",)).view(np.uint8)


def _open_shards(index: Path) -> dict[str, TensorFile]:
    weight_map = read_json_object(index, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: weight_map is missing; an object of tensor: file is needed")
    shards: dict[str, TensorFile] = {}
    result = {}
    for tensor, name in weight_map.items():
        # a plain name cannot leave the folder
        if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
            raise InputError(
                f"{index}: weight_map names {str(name)[:60]!r}; a plain *.safetensors file name "
                "is needed"
            )
        if name not in shards:
            shards[name] = TensorFile(index.parent / name)
        if tensor not in shards[name].names:
            raise InputError(f"{index}: {shards[name].path.name} has no tensor {tensor[:80]!r}")
        result[tensor] = shards[name]
    return result
