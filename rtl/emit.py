"""What designs emit: the face they share, and folders, written whole and with a manifest."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import ArrayLike

from headrace.arch.point import Point
from headrace.errors import InputError
from headrace.files import replace_directory, write_atomic
from headrace.rtl.ports import signature_ports
from headrace.rtl.verilog import to_verilog

__all__ = ["MANIFEST", "RtlFace", "component_ports", "emit_folder", "manifest"]

MANIFEST = "manifest.json"


class RtlFace(ABC):
    """The RTL face of a design.

    Attributes
    ----------
    top : str
        Module that verification and netlist counts are about.
    device : str
        Name of the device that is meant if none is named.
    """

    top: str
    device: str

    @abstractmethod
    def component(self, point: Point) -> Any:
        """Return the top module of `point` in Amaranth."""

    @abstractmethod
    def files(
        self, point: Point, device: str = "", weights: Mapping[str, ArrayLike] | None = None
    ) -> dict[str, bytes]:
        """Return all files of the emission but the manifest, by path.

        Parameters
        ----------
        point : Point
        device : str
            Name of what the hardware is for; that of the face if empty.
        weights : mapping of str to array, optional
            Weights to pack, by identifier.

        Raises
        ------
        InputError
            The device is not one for this design, the point cannot be built, or weights do not
            fit.
        """

    def verilog(self, point: Point) -> str:
        """Return the top module of `point` as Verilog."""
        return to_verilog(self.component(point), self.top)

    def ports(self, point: Point) -> dict[str, tuple[str, int]]:
        """Return direction and width of the top module's ports by name."""
        return component_ports(self.component(point))

    def emit(
        self,
        point: Point,
        directory: Path,
        *,
        device: str = "",
        weights: Mapping[str, ArrayLike] | None = None,
        nested: bool = False,
    ) -> list[Path]:
        """Write the emission as `directory` and return its files, sorted.

        Parameters
        ----------
        point, device, weights
            See `files`.
        directory : Path
            The folder to make or replace, whole or not at all.
        nested : bool
            Write straight into `directory`, a part of a folder that the caller puts in place.

        Raises
        ------
        InputError
            As `files`, or the place cannot be written or holds other people's files.
        """
        return emit_folder(self.files(point, device, weights), directory, nested=nested)


def component_ports(component: Any) -> dict[str, tuple[str, int]]:
    """Return direction and width of the ports of a component that nobody will elaborate.

    Parameters
    ----------
    component : amaranth.lib.wiring.Component
        It and the components that its constructor makes are not missed afterwards.
    """
    from amaranth.lib.wiring import Component

    ports = signature_ports(component)
    for part in (component, *vars(component).values()):
        if isinstance(part, Component):
            part._MustUse__silence = True
    return ports


def manifest(files: Mapping[str, bytes]) -> list[dict[str, str]]:
    """Return path and SHA-256 of every file, sorted by path."""
    return [{"path": path, "sha256": sha256(files[path]).hexdigest()} for path in sorted(files)]


def emit_folder(files: Mapping[str, bytes], directory: Path, *, nested: bool = False) -> list[Path]:
    """Write `files` and their manifest as `directory`; return the paths, sorted.

    Parameters
    ----------
    files : mapping of str to bytes
        Contents by POSIX path; ``point.toml`` among them marks the folder as ours.
    directory : Path
        The folder to make or replace, whole or not at all.
    nested : bool
        Write straight into `directory`, a part of a folder that the caller puts in place.

    Raises
    ------
    ValueError
        A path is absolute or leaves the folder.
    InputError
        The place cannot be written or holds files that headrace did not write.
    """
    listed = json.dumps({"files": manifest(files)}, indent=1) + "\n"
    complete = {**files, MANIFEST: listed.encode()}
    for path in complete:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or str(pure) != path:
            raise ValueError(f"{path!r} is not a path inside the folder")
    if nested:
        _write(complete, directory)
    else:
        with replace_directory(directory) as temporary:
            _write(complete, temporary)
    return [directory / path for path in sorted(complete)]


def _write(files: Mapping[str, bytes], directory: Path) -> None:
    for path in sorted(files):
        target = directory / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {target.parent}: {error.strerror}") from error
        write_atomic(target, files[path])
