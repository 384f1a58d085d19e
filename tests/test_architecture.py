"""The house keeps its shape: import directions, light imports, a wheel that holds the tree."""

import ast
import json
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("arch", "models", "sim", "rtl", "hls", "search")
LEAVES = {"errors", "files", "tcl"}
# What each layer may import of ours, besides itself and the leaves.
BELOW = {
    "arch": set(),
    "models": set(),
    "sim": {"arch", "models"},
    "rtl": {"arch"},
    "hls": {"arch"},
    "search": {"sim", "rtl", "hls", "arch", "models"},
}
HEAVY = ("numpy", "numba", "networkx", "matplotlib", "amaranth", "rich", "tokenizers", "scipy")
COMMANDS = [
    "devices",
    "models",
    "designs",
    "run",
    "simulate",
    "explore",
    "emit",
    "verify",
    "reproduce",
    "roofline",
    "demo",
]


def _python_files(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*.py")) if "__pycache__" not in p.parts]


def _imports(path: Path) -> set[str]:
    """Return the dotted names of ours that a file imports, at any depth of nesting."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write headrace.x.y"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.split(".")[0] == "headrace"}


def _faults(layer: str, names: set[str]) -> set[str]:
    allowed = BELOW[layer] | LEAVES | {layer}
    return {name for name in names if [*name.split("."), ""][1] not in allowed}


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_downwards(layer):
    files = _python_files(ROOT / layer)
    assert files
    faults = {str(p.relative_to(ROOT)): _faults(layer, _imports(p)) for p in files}
    assert {path: names for path, names in faults.items() if names} == {}


@pytest.mark.parametrize(
    "layer, line",
    [
        ("rtl", "from headrace.models.kernels import ternary_matmul"),
        ("hls", "import headrace.models"),
        ("arch", "from headrace import models"),
        ("models", "from headrace.arch.device import Device"),
        ("sim", "def f():\n    from headrace.search import space"),
        ("arch", "from headrace import __version__"),
    ],
)
def test_the_import_check_sees_a_fault(layer, line, tmp_path):
    path = tmp_path / "fault.py"
    path.write_text(line)
    assert len(_faults(layer, _imports(path))) == 1


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_import_no_bare_sibling(layer):
    for path in _python_files(ROOT / layer):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {n.split(".")[0] for n in names} & set(LAYERS), path


def test_leaves_import_nothing_above_them():
    for leaf in LEAVES:
        names = _imports(ROOT / "src" / "headrace" / f"{leaf}.py")
        assert all(name.split(".")[1] in LEAVES for name in names)


def _tree() -> set[str]:
    """Return what a wheel must hold, as paths inside the package."""
    roots = {**{layer: ROOT / layer for layer in LAYERS}, "": ROOT / "src" / "headrace"}
    found: set[str] = set()
    for prefix, root in roots.items():
        for path in root.rglob("*"):  # does not follow the links from the face to the layers
            inside = path.relative_to(root)
            if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                found.add((Path(prefix) / inside).as_posix())
    return found


def test_wheel_holds_the_tree():
    files = distribution("headrace").files or []
    installed = {
        str(f).removeprefix("headrace/")
        for f in files
        if str(f).startswith("headrace/") and "__pycache__" not in str(f)
    }
    if not installed:
        pytest.skip("editable install: there is no wheel to compare (make setup installs one)")
    assert installed == _tree()


def test_layers_are_reached_through_committed_links():
    for layer in LAYERS:
        link = ROOT / "src" / "headrace" / layer
        assert link.is_symlink()
        assert link.readlink() == Path("..") / ".." / layer


def _loaded_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `code`."""
    program = f"import sys\n{code}\nprint('\\n' + ' '.join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.split(".")[0] for name in run.stdout.splitlines()[-1].split()}


def test_import_headrace_is_light():
    loaded = _loaded_after("import headrace")
    assert not loaded & {*HEAVY, "typer", "importlib_metadata"}


@pytest.mark.parametrize("words", [["--help"], *([c, "--help"] for c in COMMANDS)])
def test_help_is_light(words):
    loaded = _loaded_after(f"from headrace.cli import main\nassert main({words!r}) == 0")
    assert "typer" in loaded
    assert not loaded & set(HEAVY)


def test_every_folder_has_a_page():
    pages = {p.stem for p in (ROOT / "docs").glob("*.md")}
    assert pages >= {*LAYERS, "cli", "index", "notebooks", "bench"}


def test_links_of_the_manual_lead_somewhere():
    for page in [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_path_of_one_machine():
    pattern = re.compile(r"(?<![\w.~])/(?:work|tmp|root|home|Users)/")
    folders = [ROOT / name for name in (*LAYERS, "src", "tests", "docs", "bench", "tools")]
    paths = [p for f in [*folders, ROOT / "notebooks"] for p in f.rglob("*") if p.is_file()]
    text = {".py", ".md", ".toml", ".json", ".sh", ".ipynb", ".v", ".tcl", ".cpp", ".h", ""}
    paths += [p for p in ROOT.iterdir() if p.is_file()]
    for path in paths:
        if "__pycache__" in path.parts or path.suffix not in text:
            continue
        found = pattern.search(path.read_text("utf-8", errors="replace"))
        assert not found, f"{path.relative_to(ROOT)} names {found.group()}"


_PLUGIN = """
from headrace.arch.axis import Axis
from headrace.arch.design import Design
from headrace.arch.resources import Resources

PUMP = Design(
    name="pump",
    summary="a third party's machine",
    axes=(Axis(name="lanes", default=2, choices=(1, 2, 4), summary="lanes"),),
    constraints=(),
    resources=lambda point: {"core": Resources(lut=100.0 * point.integer("lanes"))},
    default_device="kv260",
    default_network="tiny-bitnet",
)
"""


def test_third_party_design_is_found(tmp_path):
    (tmp_path / "pump_design.py").write_text(_PLUGIN)
    info = tmp_path / "pump-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pump\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[headrace.designs]\npump = pump_design:PUMP\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"

    def headrace(*words):
        code = f"{program}from headrace.cli import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            timeout=60,
        )

    listed = headrace("designs", "--json")
    assert listed.returncode == 0, listed.stderr
    names = {item["name"]: item for item in json.loads(listed.stdout)["items"]}
    assert set(names) >= {"pump", "tellme"}
    assert names["pump"]["axes"][0]["choices"] == [1, 2, 4]
    # It has no timing model, and says so rather than failing.
    simulated = headrace("simulate", "pump")
    assert simulated.returncode == 2
    assert simulated.stderr == "headrace: design 'pump' has no sim face\n"
