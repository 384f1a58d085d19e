import shutil
import subprocess
from pathlib import Path

import pytest

from headrace.errors import InputError
from headrace.hls.emit import (
    Code,
    Tree,
    comment,
    constants,
    identifier,
    matrix,
    render,
    tcl_code,
)

HOSTILE = 'a$b [exit 3] {x} "y" \\n ; # z'


@pytest.mark.parametrize("name", ["a", "ternary_matmul", "A1_b"])
def test_identifier_accepts(name):
    assert identifier(name) == name


@pytest.mark.parametrize(
    "name", ["", "1a", "_a", "a__b", "a-b", "a b", "class", "main", "é", "a\n"]
)
def test_identifier_refuses(name):
    with pytest.raises(InputError, match="is not allowed as an identifier") as error:
        identifier(name)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a\nb", "a\r\tb", "x */ int y; /* z", "tail\\", "ü", "?\x00?/"])
def test_comment_stays_one_comment(text):
    safe = comment(text)
    assert safe.isprintable()
    assert safe.isascii()
    for ending in ("\\", "*/", "/*", "??"):
        assert ending not in safe


def test_comment_keeps_plain_text():
    assert comment("kv260, 250 MHz") == "kv260, 250 MHz"


def test_tcl_code_escapes_every_special_character():
    assert tcl_code(HOSTILE) == '"a\\$b \\[exit 3\\] \\{x\\} \\"y\\" \\\\n ; # z"'


def test_tcl_code_refuses_control_characters():
    with pytest.raises(InputError, match="printable ASCII needed"):
        tcl_code("a\nexit")


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="needs tclsh")
def test_tcl_reads_the_word_back(tmp_path: Path):
    script = tmp_path / "word.tcl"
    script.write_text(f"puts -nonewline {tcl_code(HOSTILE)}\n")
    done = subprocess.run(["tclsh", script], capture_output=True, text=True, check=True)
    assert done.stdout == HOSTILE


def test_render_substitutes_integers_and_code():
    assert render("int @name@ = @n@; // a@b.c", {"name": Code("x"), "n": 3}) == (
        "int x = 3; // a@b.c"
    )


@pytest.mark.parametrize("value", ["plain", True, 1.5, None])
def test_render_refuses_other_values(value):
    with pytest.raises(TypeError, match="@a@ must be int or Code"):
        render("@a@", {"a": value})


@pytest.mark.parametrize("values", [{}, {"a": 1, "b": 2}])
def test_render_needs_exactly_the_placeholders(values):
    with pytest.raises(KeyError, match="placeholders without a value or the reverse"):
        render("@a@", values)


def test_render_does_not_substitute_twice():
    assert render("@a@", {"a": Code("@b@")}) == "@b@"


def test_constants_and_matrix():
    assert constants({"A": 1, "B": -2}) == "constexpr int A = 1;\nconstexpr int B = -2;"
    assert matrix([[1, 2], [3, 4]]) == "{\n    {1, 2}, {3, 4},\n}"
    assert max(map(len, matrix([[1, -1, 0]] * 50).splitlines())) <= 100


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a//b", "./a", "kept"])
def test_tree_refuses_paths(path):
    tree = Tree({"kept": "1"})
    with pytest.raises(ValueError, match="is not a new path inside the tree"):
        tree.add(path, "2")
    assert tree["kept"] == b"1"


def test_tree_hash_depends_on_names_and_contents():
    trees = [Tree({"a": "xy"}), Tree({"a": "x"}), Tree({"b": "xy"}), Tree({"a": "x", "y": ""})]
    assert len({tree.hash for tree in trees}) == 4
    assert Tree({"b": "2", "a": "1"}).hash == Tree({"a": "1", "b": "2"}).hash


def test_tree_write_is_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "out"
    Tree({"point.toml": "1", "old.txt": "1"}).write(target)
    written = Tree({"point.toml": "2", "sub/new.txt": "é"}).write(target)
    assert written == [target / "point.toml", target / "sub/new.txt"]
    assert sorted(p.name for p in target.rglob("*") if p.is_file()) == ["new.txt", "point.toml"]
    assert (target / "sub/new.txt").read_bytes() == "é".encode()

    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("keep")
    with pytest.raises(InputError, match="headrace did not write"):
        Tree({"point.toml": "2"}).write(foreign)
    assert [p.name for p in foreign.iterdir()] == ["thesis.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "out"]


def test_tree_write_into_reports_a_blocked_folder(tmp_path: Path):
    (tmp_path / "sub").write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        Tree({"sub/a": "1"}).write_into(tmp_path)
