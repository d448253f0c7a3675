"""What strangers send is read within bounds, or refused by its name: pictures, zips, tables, folders."""

import io
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.config import PROJECT
from helpers.pictures import files
from helpers.pictures.decoding import decode, look_at
from helpers.pictures.files import DataError, list_pictures, natural, read_bytes
from helpers.pictures.opening import UNREADABLE, is_picture, open_picture, why
from helpers.sources.names import propose_pattern
from helpers.sources.samples import MAX_TEXT, find_samples
from tests.captchas import encoded, noise, pack, write, write_all
from tests.hostile_pictures import MAKERS

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="FIFOs, /proc, and limits as Linux has them")
COUNT, PATIENCE = 4, 60  # of each kind; seconds of processor time, so that only what hangs is ended
LONG = 400_000  # characters


@LINUX
@pytest.mark.parametrize("kind", MAKERS)
def test_hostile_sources_are_read_or_refused_in_a_gigabyte(kind: str) -> None:
    """Each in a child of its own under a limit of address space; a good picture beside them is read."""
    command = [sys.executable, "-m", "tests.hostile_pictures", "--count", str(COUNT), "--seconds", str(PATIENCE)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # which take address space
    done = subprocess.run(
        [*command, "--kinds", kind], capture_output=True, text=True, cwd=PROJECT, env=environment, timeout=600
    )
    assert done.returncode == 0 and f"| {kind} | {COUNT} | {COUNT} |" in done.stdout, done.stdout + done.stderr


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_a_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(10**13)  # more than there is memory
    (picture,) = decode([tmp_path / "x.png"], (4, 6), 1)
    assert "10,000,000,000,000 bytes are too many" in picture.problem
    assert not is_picture(tmp_path / "x.png")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_no_member_is_unpacked_beyond_the_bound(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("bomb.png", bytes(2 * files.MAX_BYTES))
        archive.writestr("small.png", encoded(noise()), zipfile.ZIP_STORED)
    bomb, small = decode([tmp_path / "x.zip" / name for name in ("bomb.png", "small.png")], (4, 6), 1)
    assert not small.problem and ("bytes are too many" in bomb.problem or "pack the zip anew" in bomb.problem)


def test_a_zip_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(60):
            archive.writestr(f"{number}.png", bytes(2_000_000))
    with pytest.raises(DataError, match=r"x\.zip would unpack from .* to 120,000,000 bytes"):
        find_samples(tmp_path / "x.zip")


def test_a_zip_of_more_files_than_are_read_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(write_all(tmp_path / "in", range(5)), tmp_path / "x.zip")
    monkeypatch.setattr(files, "MOST_FILES", 5)
    assert len(find_samples(archive)) == 5
    monkeypatch.setattr(files, "MOST_FILES", 4)
    os.utime(archive, (1, 1))  # another version of it
    with pytest.raises(DataError, match="more than 4 files: unpack it and name the folder"):
        find_samples(archive)


def test_a_long_name_in_a_zip_is_refused_and_shortened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/" * 20_000 + "x.png", b"")
    with pytest.raises(DataError, match="at most are read") as refused:
        find_samples(tmp_path / "x.zip")
    assert len(str(refused.value)) < 1_000


# --- kinds of files ---------------------------------------------------------------------------------------------------


@LINUX
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "memory.png").symlink_to("/proc/self/mem")
    (tmp_path / "log.png").symlink_to("/proc/kmsg")
    (tmp_path / "folder.png").symlink_to(tmp_path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "absent")
    found, others = list_pictures(tmp_path)
    assert [path.name for path in others] == ["fifo"] and not is_picture(others[0])
    problems = {path.name: picture.problem for path, picture in zip(found, decode(found, (4, 6), 1), strict=True)}
    assert "a FIFO and no regular file" in problems["fifo.png"] and "a device" in problems["zero.png"]
    assert "empty" in problems["memory.png"] and "empty" in problems["log.png"]
    assert "a folder" in problems["folder.png"] and "No such file" in problems["gone.png"]
    for source in (tmp_path / "fifo", tmp_path / "zero.png"):
        with pytest.raises(DataError, match="no regular file"):
            find_samples(source)


def test_links_to_regular_files_work(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "AB.png").symlink_to(write(tmp_path / "elsewhere.png"))
    (tmp_path / "set.zip").symlink_to(pack(write_all(tmp_path / "in", range(2)), tmp_path / "real.zip"))
    for source in (tmp_path / "set", tmp_path / "set.zip"):
        samples = find_samples(source)
        assert samples and not any(picture.problem for picture in decode([s.path for s in samples], (4, 6), 1))


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "AB.png")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def denied(place: Path) -> object:
        if place == closed:
            raise PermissionError(13, "Permission denied")
        return scandir(place)

    monkeypatch.setattr(os, "scandir", denied)
    closed = tmp_path / "closed"
    assert list_pictures(tmp_path) == ([tmp_path / "AB.png"], [closed])
    closed = tmp_path
    with pytest.raises(DataError, match="cannot be listed: Permission denied"):
        list_pictures(tmp_path)


# --- decoders ---------------------------------------------------------------------------------------------------------


@LINUX
def test_postscript_never_reaches_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would run a program that a stranger wrote."""
    gs = tmp_path / "gs"
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    gs.chmod(gs.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert shutil.which("gs") == str(gs)
    content = encoded(noise(), "eps")
    assert Image.open(io.BytesIO(content)).format == "EPS"  # Pillow alone would
    assert "no image format" in look_at(content, (4, 6), 1).problem
    assert not (tmp_path / "ran").exists()


class Odd(Exception):
    """An error that nobody has heard of."""


ERRORS = [Odd, MemoryError, RecursionError, SyntaxError, ZeroDivisionError, OverflowError, AssertionError, KeyError]


@pytest.mark.parametrize("error", [*ERRORS, AttributeError, Image.DecompressionBombError, NotImplementedError])
def test_whatever_a_decoder_raises_is_the_error_of_that_picture(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error("told by the decoder \x1b[31m")

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(UNREADABLE) as raised:
        open_picture(encoded(noise()))
    assert error.__name__ in why(raised.value) and "told by the decoder" in why(raised.value)
    assert why(raised.value).isprintable()
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    (picture,) = decode([tmp_path / "x.png"], (4, 6), 1)
    assert "told by the decoder" in picture.problem


# --- time: nothing is quadratic in what a stranger wrote, no pattern goes back and forth ------------------------------

PIECES = ["0", "9", "a", "f", "-", "_", " ", "(", ")", ".", "/", "\\", "copy", " - Copy", "(1)"]
PIECES += ["\u0301", "\u0323", "\ufdfa", "'", "=", "\0"]
LONG_TEXT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join).map(lambda s: s * (LONG // len(s)))
in_time = settings(deadline=5_000, max_examples=30, suppress_health_check=[*HealthCheck])


@in_time
@given(LONG_TEXT, LONG_TEXT)
def test_the_natural_order_of_long_names_takes_no_time(one: str, other: str) -> None:
    assert sorted([one, other, one + "1"], key=natural)


@in_time
@given(LONG_TEXT)
def test_patterns_do_not_go_back_and_forth(text: str) -> None:
    propose_pattern([text, f"{text}_1", f"{text}-abcdef", f"x{text}(1)"])


@in_time
@given(text=LONG_TEXT, name=LONG_TEXT, kind=st.sampled_from(["csv", "tsv", "txt"]))
def test_long_cells_are_refused_in_no_time(tmp_path_factory, text: str, name: str, kind: str) -> None:
    folder = tmp_path_factory.mktemp("set")
    write(folder / "AB.png")
    rows = text if kind == "txt" else f"file,label\nAB.png,{text[:100_000]}\n{name[:1_000]},{text[:1_000]}\n"
    (folder / f"labels.{kind}").write_text(rows, encoding="utf-8")
    with pytest.raises(DataError) as refused:
        find_samples(folder / f"labels.{kind}")
    assert f"labels.{kind}" in str(refused.value) and len(str(refused.value)) < 5_000


@pytest.mark.parametrize("digits", [4_300, 4_301, LONG])
def test_numbers_that_python_would_not_read_are_in_order(digits: int) -> None:
    small, large = ["a9", "a010", "a10"], [f"a1{'0' * digits}", f"a2{'0' * digits}", f"a1{'0' * (digits + 1)}"]
    mixed = [large[2], small[2], large[0], small[1], large[1], small[0]]
    assert sorted(mixed, key=natural) == small + large


@given(st.lists(st.text(st.sampled_from("a01b"), min_size=1, max_size=6), min_size=2, max_size=6))
def test_the_natural_order_is_that_of_the_numbers(names: list[str]) -> None:
    def by_number(name: str) -> tuple[list, str]:
        parts = re.split(r"([0-9]+)", name)
        return [int(part) if place % 2 else part for place, part in enumerate(parts)], name

    try:
        expected = sorted(names, key=by_number)
    except TypeError:  # a number against a text
        return
    assert sorted(names, key=natural) == expected


# --- tables -----------------------------------------------------------------------------------------------------------


def _table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    write(folder / "AB.png")
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


BOUNDS: dict[str, Callable[[Path], Path]] = {
    "columns in its first line": lambda folder: _table(folder, ",".join(f"c{n}" for n in range(1_001)) + "\n"),
    "more than 250,000 lines": lambda folder: _table(folder, "file,label\n" + "AB.png,x\n" * 250_001),
    "more than 250,000 lines:": lambda folder: _table(folder, "x\n" * 250_001, "labels.txt"),
    "bytes are too many": lambda folder: _table(folder, "x" * 16_000_001),
    "characters in line 3": lambda folder: _table(folder, f"file,label\nAB.png,x\n{'x' * 1_001},y\n"),
    f"more than {MAX_TEXT} characters": lambda folder: _table(folder, f"file,label\nAB.png,{'x' * 256}\n"),
}


@pytest.mark.parametrize("said", BOUNDS)
def test_a_table_beyond_a_bound_is_refused_by_name(said: str, tmp_path: Path) -> None:
    source = BOUNDS[said](tmp_path)
    with pytest.raises(DataError, match=said) as refused:
        find_samples(source)
    assert source.name in str(refused.value)


def test_a_table_as_large_as_is_read(tmp_path: Path) -> None:
    source = _table(tmp_path, "file,label\n" + "AB.png,x\n" * 1_000 + f"AB.png,{'x' * MAX_TEXT}\n")
    assert len(find_samples(source)) == 1_001


def test_bytes_that_are_read_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    assert read_bytes(tmp_path / "x", 10) == b"0123456789"
    with pytest.raises(ValueError, match="10 bytes are too many: 9 at most"):
        read_bytes(tmp_path / "x", 9)
