"""What leaves the project: terminals obey no name, spreadsheets run no cell, and what we wrote we read back exactly."""

import io
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.config import Config
from helpers.data import module as data
from helpers.evaluation.seen import SplitList
from helpers.models.recipes import get_recipe
from helpers.models.weights import save_model
from helpers.output import READINGS, SPLIT_LIST, harmless, json_text, plain, printable, sentence, shown
from helpers.pictures.files import DataError, first_names
from helpers.reading import export
from helpers.record.tracking import TrackedRun
from helpers.rows import csv_rows
from helpers.sources.samples import find_samples
from helpers.text.spelling import Reading, one_spelling
from tests import verbs
from tests.captchas import encoded, noise, write, write_all

ODD = ["\x1b", "\x1b[31m", "\x9b", "\x07", "\u202e", "\u2066", "\u200b", "\r", "\n", "\t", "\x7f", "\x00", "\ud800"]
SIGNS = [*"=+-@'\\;,\" ./u0041U", "\uff1d", "\\u0041", "\\u", ";=", "'=", "./", "\u00a0", "\u3000"]
TEXT = st.lists(st.one_of(st.sampled_from(ODD + SIGNS), st.characters()), max_size=12).map("".join)
ORDERS = (*"=+-@\t\r\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # what a spreadsheet obeys at the beginning of a cell


# --- cells ------------------------------------------------------------------------------------------------------------


@settings(max_examples=500)
@given(TEXT, st.sampled_from(["text", "path", "file", "reading"]))
def test_a_cell_is_harmless_and_stands_for_what_it_was(text: str, column: str) -> None:
    path = column in ("path", "file")
    if path and text.startswith("./"):
        return  # no path begins so
    (cell,) = harmless([column], [text])
    assert plain(cell, path) == text
    assert not cell.startswith(ORDERS) and not any(f";{sign}" in cell for sign in ORDERS)
    assert printable(cell) == cell and cell == cell.strip()


@given(st.from_regex(r"\A[A-Za-z0-9_/. ()-]*[A-Za-z0-9]\Z"))
def test_what_needs_no_change_has_none(text: str) -> None:
    if text[0] in "-. ":
        text = f"x{text}"
    assert harmless(["text", "path"], [text, text]) == [text, text]


def test_numbers_stay_numbers() -> None:
    row = [-1.5, 3, np.float32(-0.5), np.int64(-2), True]
    assert harmless(["a", "b", "c", "d", "e"], row) == row


@given(TEXT, st.integers(0, 1))
def test_json_gives_the_same_back_and_shows_nothing_odd(text: str, indent: int) -> None:
    written = json_text({"text": [text]}, indent or None)
    assert json.loads(written) == {"text": [text]} and printable(written, keep="\n") == written


@given(TEXT)
def test_what_is_shown_is_one_line_without_orders(text: str) -> None:
    assert printable(shown(text)) == shown(text) and "\n" not in shown(text)
    assert printable(sentence(text), keep="\n") == sentence(text)
    assert str(DataError(text)) == sentence(text)


def test_letters_of_all_languages_are_shown_as_they_are() -> None:
    for text in ("größe", "漢字", "ключ", "ελ", "a b", "😀", "é", "\u0928\u093f"):
        assert printable(text) == text


def test_long_names_are_shortened() -> None:
    assert len(first_names(["x" * 400_000] * 9)) < 2_000 and "(400000 characters)" in shown("x" * 400_000)
    assert len(str(DataError("x" * 400_000))) < 5_000


# --- tables -----------------------------------------------------------------------------------------------------------

CHARACTERS = st.one_of(st.sampled_from([*ODD[:-2], *SIGNS, "\udcff"]), st.characters(codec="utf-8"))  # udcff: a byte
NAMES = st.lists(CHARACTERS, min_size=1, max_size=8)
NAMES = NAMES.map(lambda parts: "".join(parts).replace("/", "").replace("\0", "")).filter(lambda s: s.strip(" ."))


@settings(max_examples=60, suppress_health_check=[*HealthCheck], deadline=None)
@given(st.lists(st.tuples(NAMES, TEXT.filter(lambda text: text.strip())), min_size=1, max_size=5))
def test_readings_that_are_written_are_read_as_labels_exactly(rows: list[tuple[str, str]]) -> None:
    """Names and texts of any characters: the table of `python -m helpers read` as the labels of a training."""
    options = SimpleNamespace(accept=None, best=0)
    with tempfile.TemporaryDirectory() as scratch:
        folder, told = Path(scratch), io.StringIO()
        pairs = {one_spelling(name) + ".png": one_spelling(text) for name, text in rows}
        pairs = {name: text for name, text in pairs.items() if len(os.fsencode(name)) < 200 and text}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", told)
            write_row = csv_rows(options)
            for name, text in pairs.items():
                (folder / name).write_bytes(b"")
                write_row(Path(name), Reading(text, -0.0))
        (folder / "readings.csv").write_text(told.getvalue(), encoding="utf-8", newline="")
        if pairs:
            found = [(sample.path, sample.text) for sample in find_samples(folder / "readings.csv")]
            assert found == [(folder / name, text) for name, text in pairs.items()]


@settings(max_examples=100, suppress_health_check=[*HealthCheck], deadline=None)
@given(
    st.lists(st.tuples(NAMES, TEXT, st.sampled_from(["train", "val", "test"]), st.sampled_from(["", "0a"])), min_size=1)
)
def test_a_split_list_that_is_written_is_read_exactly(tmp_path_factory, rows: list[tuple[str, ...]]) -> None:
    path = tmp_path_factory.mktemp("run") / "splits.csv"
    run = object.__new__(TrackedRun)
    run.text = lambda text, name: path.write_text(text, encoding="utf-8", newline="")
    run.table(SPLIT_LIST, rows, "data/splits.csv")
    expected = [(name, text, content) for name, text, side, content in rows if side == "test"]
    assert [tuple(captcha) for captcha in SplitList(path).test] == expected


def test_tables_of_others_are_not_edited(tmp_path: Path) -> None:
    """An apostrophe is taken off only where we put it on."""
    for text in ("'=x", "\\u0041", "'x", "=x", "-5"):
        write(tmp_path / "a.png")
        (tmp_path / "labels.csv").write_text(f"file,label\na.png,{text}\n", encoding="utf-8")
        assert [sample.text for sample in find_samples(tmp_path / "labels.csv")] == [text]


def test_a_list_of_an_older_run_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("file,text,split\n'=a.png,'=x,test\n", encoding="utf-8")
    assert [captcha[:2] for captcha in SplitList(tmp_path / "splits.csv").test] == [("'=a.png", "'=x")]


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n1,2\n", b"file,text,split\nx\n", b"\xff\xfe\0", b'file,text,split\n"x']
)
def test_what_is_no_split_list_is_said_so(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_bytes(content)
    try:
        assert not SplitList(tmp_path / "splits.csv").test
    except DataError as error:
        assert "splits.csv is no split list" in str(error)


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights."""
    recipe = get_recipe(Config(recipe="conv_ctc"))
    codec = recipe.codec("0123456789=-", None)
    return save_model(tmp_path_factory.mktemp("model"), recipe.network(codec), codec, recipe)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures with names that give orders, one of them damaged, one file that is no picture."""
    names = [
        "=1+1",
        "-2",
        "@x",
        "a\x1b[31mb",
        "c\u202ed",
        "e\nf",
        "g\th",
        "=cmd|'x'!A1",
        "' =x",
        "\\u0041",
        "i;=j",
        "\x9bk",
    ]
    for place, name in enumerate(names):
        (tmp_path / "set" / f"{name}.png").parent.mkdir(exist_ok=True)
        (tmp_path / "set" / f"{name}.png").write_bytes(encoded(noise((64, 24), place)))
    (tmp_path / "set" / "l\x1b]0;title\x07m.png").write_bytes(b"no picture")
    (tmp_path / "set" / "n\x1b\u202e.doc").write_bytes(b"no picture")
    return tmp_path / "set"


def told(capsys: pytest.CaptureFixture[str]) -> str:
    output = capsys.readouterr()
    said = output.out + output.err
    assert printable(said, keep="\n") == said and len(said) > 20
    return said


def test_no_command_says_to_a_terminal_what_a_name_orders(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "work"))
    reports = ["--json", str(tmp_path / "audit.json"), "--sheet", str(tmp_path / "sheet.png")]
    with warnings.catch_warnings(record=True) as warned:  # of glyphs that a font lacks
        assert verbs.audit([str(folder), "--recipe", "conv_ctc", *reports]) == 1
    assert all(printable(warning.message, keep="\n") == str(warning.message) for warning in warned)
    assert "\\u001b]0;title\\u0007m.png" in told(capsys)
    assert json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["images"] == 13
    for options in ([], ["--json-lines"], ["--best", "2"]):
        assert verbs.read([str(model), str(folder), *options]) == 1
        assert "could not read" in told(capsys)
    (strange := tmp_path / "\x1b[2J\u202e").mkdir()
    for command, arguments in (
        (verbs.audit, [str(strange)]),
        (verbs.read, [str(model), str(strange / "x.zip")]),
        (verbs.read, [str(strange), str(folder)]),
        (verbs.export, [str(strange)]),
        (verbs.synthetic, [str(folder), "--count", "0"]),
    ):
        with pytest.raises(SystemExit, match="2"):
            command(arguments)
        told(capsys)


def test_what_is_printed_of_a_set_gives_no_orders(folder: Path, tmp_path: Path) -> None:
    (folder / "l\x1b]0;title\x07m.png").unlink()
    loaded = data.load_data(
        Config(data=folder, recipe="conv_ctc", work=tmp_path / "work", val_share=0.3, test_share=0.3)
    )
    assert printable(str(loaded), keep="\n") == str(loaded) and printable(str(loaded.audit), keep="\n") == str(
        loaded.audit
    )
    with pytest.raises(DataError, match=r"no text in .*a\\u001b\[31mb") as refused:
        find_samples(folder, label_pattern="([^a].*)")
    assert str(refused.value).isprintable()


def test_paths_in_readings_open_and_no_cell_is_a_formula(
    folder: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in [*folder.iterdir()]:
        if not path.name.startswith(("=", "-", "@")):
            path.unlink()
    monkeypatch.chdir(folder)
    names = sorted(path.name for path in folder.iterdir())
    assert verbs.read([str(model), "--", *names]) == 0
    table = pandas.read_csv(io.StringIO(capsys.readouterr().out), dtype=str, keep_default_na=False)
    assert list(table.columns) == list(READINGS) and len(table) == len(names) == 4
    assert [Path(path) for path in table["path"]] == [Path(name) for name in names]
    assert all(Path(path).is_file() for path in table["path"])
    assert not any(cell.startswith(ORDERS) for cell in table.to_numpy().ravel())


# --- exit 2: nothing was changed --------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def refused(command: object, arguments: list[object], folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(SystemExit) as ended:
        command([str(argument) for argument in arguments])
    assert ended.value.code == 2 and contents(folder) == before


def test_exit_2_means_that_nothing_was_changed(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "work"))
    pictures = write_all(tmp_path / "set", range(9))
    (tmp_path / "a.json").write_text("as it was")
    (tmp_path / "folder").mkdir()
    good, there = tmp_path / "new.json", tmp_path / "a.json"
    for report, sheet in ((there, "a.xyz"), (good, "nowhere/a.png"), (there, "folder"), ("folder", "a.png")):
        refused(
            verbs.audit,
            [pictures, "--recipe", "conv_ctc", "--json", tmp_path / report, "--sheet", tmp_path / sheet],
            tmp_path,
        )
    refused(verbs.audit, [pictures, "--charset", "AA"], tmp_path)
    refused(verbs.audit, [tmp_path / "folder"], tmp_path)
    refused(verbs.synthetic, [pictures, "--count", "3"], tmp_path)
    refused(verbs.synthetic, [tmp_path / "a.json" / "below"], tmp_path)
    refused(verbs.read, [model, pictures, "--words", tmp_path], tmp_path)
    refused(verbs.read, [model, tmp_path / "absent.zip"], tmp_path)
    refused(verbs.read, ["runs:/0123/model", pictures], tmp_path)
    refused(verbs.export, [tmp_path / "folder", "--to", tmp_path / "deep" / "x.onnx"], tmp_path)


def test_an_export_that_fails_leaves_no_folder(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def differs(*_: object) -> None:
        raise ValueError("it reads otherwise")

    monkeypatch.setattr(export, "check", differs)
    refused(verbs.export, [model, "--to", tmp_path / "deep" / "x.onnx"], tmp_path)


def test_captchas_that_are_half_made_are_exit_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: what was made stays, and the same command makes the rest."""
    replace, left = os.replace, [3]

    def full(part: Path, path: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        replace(part, path)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SystemExit, match="1"):
        verbs.synthetic([str(tmp_path / "set"), "--count", "9", "--workers", "1"])
    assert len([*(tmp_path / "set").iterdir()]) == 3
    left[0] = 0
    refused(verbs.synthetic, [tmp_path / "set", "--count", "9", "--workers", "1"], tmp_path)
