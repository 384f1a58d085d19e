import errno
import os

import pytest

from headrace.errors import InputError
from headrace.files import read_text, replace_directory, write_atomic


def test_write_replaces_the_whole_file(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, "a longer text")
    write_atomic(path, b"short")
    assert path.read_bytes() == b"short"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["a"]


def test_failure_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_atomic(path, "old")

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(InputError, match=f"^cannot write {path}: No space left on device$"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", "new")
    assert os.listdir(tmp_path) == []


def test_missing_folder_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="No such file or directory"):
        write_atomic(tmp_path / "none" / "a", "x")


def test_folder_is_replaced_whole(tmp_path):
    place = tmp_path / "deep" / "out"
    with replace_directory(place) as folder:
        (folder / "point.toml").write_text("1")
        (folder / "stale").write_text("1")
        assert not place.exists()
    with replace_directory(place) as folder:
        (folder / "point.toml").write_text("2")
    assert os.listdir(place) == ["point.toml"]
    assert (place / "point.toml").read_text() == "2"
    assert os.listdir(place.parent) == ["out"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, InputError])
def test_folder_stays_if_the_block_fails(tmp_path, failure):
    place = tmp_path / "out"
    with replace_directory(place) as folder:
        (folder / "point.toml").write_text("1")
    with pytest.raises(failure), replace_directory(place) as folder:  # noqa: PT012
        (folder / "half").write_text("2")
        raise failure
    assert os.listdir(place) == ["point.toml"]
    assert os.listdir(tmp_path) == ["out"]


def test_foreign_folder_and_file_are_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("x")
    for place, reason in ((tmp_path / "mine", "did not write"), (tmp_path / "mine/thesis", "file")):
        with pytest.raises(InputError, match=reason), replace_directory(place):
            pass
    assert (tmp_path / "mine" / "thesis").read_text() == "x"
    assert os.listdir(tmp_path) == ["mine"]


def test_empty_folder_may_be_replaced(tmp_path):
    with replace_directory(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    (tmp_path / "empty").mkdir()
    with replace_directory(tmp_path / "empty") as folder:
        (folder / "a").write_text("1")
    assert os.listdir(tmp_path / "empty") == ["a"]


def test_read_text_takes_a_whole_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes("née".encode())
    assert read_text(path, 4) == "née"


def test_read_text_refuses_in_one_line(tmp_path):
    (tmp_path / "large").write_bytes(b"12345")
    (tmp_path / "latin").write_bytes(b"n\xe9e")
    os.mkfifo(tmp_path / "pipe")
    for name, message in {
        "none": "cannot read {}: no such file",
        "pipe": "cannot read {}: it is not a regular file",
        ".": "cannot read {}: it is not a regular file",
        "x" * 300: "cannot read {}: File name too long",
        "large": "{}: larger than 4 bytes, which is not accepted",
        "latin": "{}: not UTF-8 at byte 1",
        "nul\0": "cannot read {}: no such file",
    }.items():
        with pytest.raises(InputError) as caught:
            read_text(tmp_path / name, 4)
        assert str(caught.value) == message.format(tmp_path / name)
