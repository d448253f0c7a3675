"""Captchas found: each picture with its own text, whatever the folder, zip, table or list looks like; else an error."""

import random
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path

import pytest

from helpers.pictures.opening import DataError, natural, open_picture
from helpers.sources.names import SPLITS, Sample, propose_pattern, sample_text
from helpers.sources.samples import find_samples
from helpers.text.spelling import one_spelling
from tests.captchas import pack, table, write, write_all

NFC, NFD = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))


def texts(samples: Iterable[Sample]) -> list[str]:
    return [sample.text for sample in samples]


def grays(samples: Iterable[Sample]) -> list[int]:
    return [open_picture(sample.path).getpixel((0, 0)) for sample in samples]


def pairs(samples: Iterable[Sample]) -> list[tuple[str, str]]:
    """(name of the file, text)."""
    return [(sample.path.name, sample.text) for sample in samples]


def text_file(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))  # line ends as they are
    return path


def pack_without_flag(folder: Path, archive: Path, names: dict[str, bytes]) -> Path:
    """A zip whose members get other names of the same length, byte by byte, and so without the flag for UTF-8."""
    content = pack(folder, archive).read_bytes()
    for name, instead in names.items():
        assert len(name) == len(instead) and content.count(name.encode()) == 2  # at the file and in the directory
        content = content.replace(name.encode(), instead)
    archive.write_bytes(content)
    return archive


@pytest.fixture(params=["folder", "zip"])
def as_source(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Path]:
    """A folder as it is, or the zip of it."""
    return lambda folder: folder if request.param == "folder" else pack(folder, tmp_path / "packed.zip")


# --- folders and zips ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "captchas", "captchas/captchas", "a/b/c/d"])
def test_pictures_are_found_at_any_depth(tmp_path: Path, as_source: Callable[[Path], Path], below: str) -> None:
    write(tmp_path / "in" / below / "B2.png", 20)
    write(tmp_path / "in" / below / "A1.JPG", 10)
    source = as_source(tmp_path / "in")
    samples = find_samples(source)
    assert texts(samples) == ["A1", "B2"] and all(source in sample.path.parents for sample in samples)
    assert grays(samples) == [10, 20] and {sample.side for sample in samples} == {None}


def test_pictures_come_in_natural_order(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    for number in (10, 2, 100, 1, 21):
        write(tmp_path / "in" / f"captcha{number}.png", number)
        write(tmp_path / "in" / f"part{number}" / "x.png", number)
    samples = find_samples(as_source(tmp_path / "in"))
    assert grays(samples) == [1, 2, 10, 21, 100] * 2
    assert texts(samples) == ["captcha1", "captcha2", "captcha10", "captcha21", "captcha100"] + ["x"] * 5


def test_the_natural_order_does_not_depend_on_the_order_of_the_file_system() -> None:
    for names in permutations(["7.png", "07.png", "007.png", "a7.png", "a.png"]):
        assert sorted(names, key=natural) == sorted(sorted(names), key=natural)


def test_other_files_are_left_to_the_audit(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    write(tmp_path / "in" / "A1.png")
    for name in ("Thumbs.db", "notes.txt", "labels.csv", "A2.png.part"):
        (tmp_path / "in" / name).write_text("no picture")
    assert texts(find_samples(as_source(tmp_path / "in"))) == ["A1"]


@pytest.mark.parametrize(
    "added", ["._A1.png", ".hidden.png", "__MACOSX/A1.png", "__MACOSX/deep/._A1.png", ".ipynb_checkpoints/A1-copy.png"]
)
def test_hidden_files_and_what_macos_adds_are_passed_over(
    tmp_path: Path, as_source: Callable[[Path], Path], added: str
) -> None:
    home = tmp_path / ".hidden" / "in"  # what stands above the source says nothing about it
    write(home / "A1.png", 10)
    write(home / added, 20)
    samples = find_samples(as_source(home))
    assert texts(samples) == ["A1"] and grays(samples) == [10]


@pytest.mark.parametrize(
    ("stem", "pattern", "text"),
    [
        ("8AE5T", None, "8AE5T"),
        ("8AE5T-0", r"(.+)-\d+", "8AE5T"),
        ("8AE5T_12", r"(.+)_\d+", "8AE5T"),
        ("17_8AE5T", r"\d+_(.+)", "8AE5T"),
        ("a.b", None, "a.b"),
        ("a-b", None, "a-b"),
        ("a-b-0", r"(.+)-\d+", "a-b"),
        ("a.b_1", r"(.+)_\d+", "a.b"),
        ("1+2=x", None, "1+2=x"),
        ("007", None, "007"),
        ("größe", None, "größe"),
        (NFD, None, NFC),
        (f"{NFD}-1", r"(\w+)-\d", NFC),
        ("验证码-0", r"(.+)-\d+", "验证码"),
    ],
)
def test_names_give_texts(
    tmp_path: Path, as_source: Callable[[Path], Path], stem: str, pattern: str | None, text: str
) -> None:
    assert sample_text(Path("x") / f"{stem}.png", pattern) == text
    write(tmp_path / "in" / f"{stem}.png", 77)
    samples = find_samples(as_source(tmp_path / "in"), pattern)
    assert texts(samples) == [text] and grays(samples) == [77]


@pytest.mark.parametrize("pattern", [r"(\w+)-\d", r"(AB)", r"(x)?.+"])
def test_names_that_do_not_match_are_an_error(tmp_path: Path, pattern: str) -> None:
    write(tmp_path / "AB-12.png")
    with pytest.raises(DataError, match=r"no text in 1 file: AB-12\.png of .* must match the stem"):
        find_samples(tmp_path, pattern)


@pytest.mark.parametrize(("pattern", "said"), [(r".+-\d+", "has no group"), ("(", "no regular expression")])
def test_a_pattern_that_cannot_be_used_is_an_error_that_says_so(tmp_path: Path, pattern: str, said: str) -> None:
    write(tmp_path / "AB-1.png")
    with pytest.raises(DataError, match=f"label_pattern=.*{said}"):
        find_samples(tmp_path, pattern)


def test_missing_and_empty_sources_are_named(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    with pytest.raises(DataError, match="nowhere does not exist: name a folder, a zip, a table .* or a list"):
        find_samples(tmp_path / "nowhere")
    (tmp_path / "in" / "empty").mkdir(parents=True)
    source = as_source(tmp_path / "in")
    with pytest.raises(DataError, match=f"{source.name} holds no pictures .*png"):
        find_samples(source)
    (tmp_path / "a.zip").write_text("no zip")
    with pytest.raises(DataError, match="a.zip is neither a folder nor a zip of pictures"):
        find_samples(tmp_path / "a.zip")


def test_a_source_without_pictures_points_at_its_table(tmp_path: Path) -> None:
    table(tmp_path / "labels.csv", [])
    with pytest.raises(DataError, match="holds no pictures .*; name labels.csv itself"):
        find_samples(tmp_path)


def test_a_zip_made_anew_is_read_anew(tmp_path: Path) -> None:
    for gray in (1, 2):
        samples = find_samples(pack(write_all(tmp_path / str(gray), [gray]), tmp_path / "x.zip"))
        assert texts(samples) == [f"000{gray}"] and grays(samples) == [gray]


@pytest.mark.parametrize("spelling", [NFC, NFD])
def test_zip_names_in_utf8_without_the_flag_for_it(tmp_path: Path, spelling: str) -> None:
    """As macOS writes them."""
    name = f"{spelling}.png".encode()
    write(tmp_path / "in" / f"{'x' * (len(name) - 4)}.png", 33)
    archive = pack_without_flag(tmp_path / "in", tmp_path / "x.zip", {"x" * (len(name) - 4) + ".png": name})
    samples = find_samples(archive)
    assert texts(samples) == [NFC] and grays(samples) == [33]


def test_zip_names_in_the_encoding_of_dos(tmp_path: Path) -> None:
    write(tmp_path / "in" / "xAB.png", 33)
    samples = find_samples(pack_without_flag(tmp_path / "in", tmp_path / "x.zip", {"xAB.png": b"\x82AB.png"}))
    assert texts(samples) == ["éAB"] and grays(samples) == [33]


# --- tables ----------------------------------------------------------------------------------------------------------

TABLE = ["file{d}label{d}note", "one.png{d}größe{d}", 'deep/two.png{d}"a{d}b"{d}"quoted\nline"', "one.png{d}007{d}x"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [False, True])
def test_table(tmp_path: Path, delimiter: str, encoding: str, newline: str, last: bool) -> None:
    content = ("\n".join(TABLE) + "\n" * last).replace("{d}", delimiter).replace("\n", newline)
    source = text_file(tmp_path / "labels.csv", content, encoding)
    expected = [("one.png", "größe"), ("deep/two.png", f"a{delimiter}b"), ("one.png", "007")]  # a zero is no number
    assert find_samples(source) == [Sample(tmp_path / name, text) for name, text in expected]


def test_tsv_is_split_at_tabs_alone(tmp_path: Path) -> None:
    source = text_file(
        tmp_path / "labels.tsv", "file\tlabel\tnotes, if any, or none, or more\na.png\ta,b\t\nb.png\tc;d\tx\n"
    )
    assert find_samples(source) == [Sample(tmp_path / "a.png", "a,b"), Sample(tmp_path / "b.png", "c;d")]


@pytest.mark.parametrize("file", ["file", "FileName", "image", "PATH"])
@pytest.mark.parametrize("label", ["label", "Text", "LABEL"])
def test_columns_in_any_case_and_order(tmp_path: Path, file: str, label: str) -> None:
    source = text_file(tmp_path / "x.csv", f'id, {label} ,{file}\n1, AB ,a.png\n2, "C,D", b.png\n')
    assert find_samples(source) == [Sample(tmp_path / "a.png", "AB"), Sample(tmp_path / "b.png", "C,D")]


def test_columns_that_are_named(tmp_path: Path) -> None:
    source = text_file(tmp_path / "x.csv", "id,file,label,what\nb.png,a.png,AB,CD\n")
    assert find_samples(source) == [Sample(tmp_path / "a.png", "AB")]
    assert find_samples(source, file_column="id") == [Sample(tmp_path / "b.png", "AB")]
    assert find_samples(source, label_column="what") == [Sample(tmp_path / "a.png", "CD")]
    assert find_samples(source, file_column="id", label_column="what") == [Sample(tmp_path / "b.png", "CD")]


@pytest.mark.parametrize(
    ("columns", "setting", "meant"),
    [("file,path,label", "file_column", "path"), ("file,Label,text", "label_column", "text")],
)
def test_columns_of_which_several_could_be_meant(tmp_path: Path, columns: str, setting: str, meant: str) -> None:
    source = text_file(tmp_path / "x.csv", f"{columns}\na,b,c\n")
    with pytest.raises(DataError, match=f"x.csv has the columns .*{meant}.*: say with {setting} .* which is meant"):
        find_samples(source)
    expected = Sample(tmp_path / "b", "c") if meant == "path" else Sample(tmp_path / "a", "c")
    assert find_samples(source, **{setting: meant}) == [expected]


@pytest.mark.parametrize("setting", ["file_column", "label_column"])
def test_a_named_column_that_is_not_there(tmp_path: Path, setting: str) -> None:
    source = table(tmp_path / "x.csv", [("a.png", "AB")])
    with pytest.raises(DataError, match=rf"x.csv has no column 'other' \({setting}\): its columns are .*file.*label"):
        find_samples(source, **{setting: "other"})


@pytest.mark.parametrize("content", ["", "\n", "a.png,AB\n", "file,what\na.png,AB\n"])
def test_a_table_without_a_column_of_labels_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="x.csv has the columns .*`file` and `label` are expected in its first line"):
        find_samples(text_file(tmp_path / "x.csv", content))


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="x.csv has no rows"):
        find_samples(table(tmp_path / "x.csv", []))


@pytest.mark.parametrize("row", ["b.png,", "b.png", "b.png, "])
def test_a_row_without_a_label_is_an_error(tmp_path: Path, row: str) -> None:
    with pytest.raises(DataError, match="x.csv gives no label for 1 file: b.png"):
        find_samples(text_file(tmp_path / "x.csv", f"file,label\na.png,AB\n{row}\n"))


def test_a_row_without_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="x.csv names no file in line 3"):
        find_samples(text_file(tmp_path / "x.csv", "file,label\na.png,AB\n,CD\n"))


def test_a_row_with_too_many_cells_is_an_error(tmp_path: Path) -> None:
    """A text with a comma that nobody quoted would else be cut at it."""
    with pytest.raises(
        DataError, match="x.csv has more cells than columns in line 3: put texts that hold ',' in quotes"
    ):
        find_samples(text_file(tmp_path / "x.csv", "file,label\na.png,AB\nb.png,C,D\n"))


@pytest.mark.parametrize("rows", ['a.png,A\nb.png,"B\nc.png,C\n', f"a.png,{'A' * 200_000}\n"], ids=["quote", "cell"])
def test_a_table_that_cannot_be_parsed_is_an_error_that_names_it(tmp_path: Path, rows: str) -> None:
    """A quote that is never closed would else swallow all rows behind it."""
    with pytest.raises(DataError, match="x.csv"):
        find_samples(text_file(tmp_path / "x.csv", "file,label\n" + rows))


@pytest.mark.parametrize("name", ["x.csv", "x.txt"])
def test_a_table_or_list_in_an_unknown_encoding_is_an_error(tmp_path: Path, name: str) -> None:
    source = text_file(tmp_path / name, "file,label\na.png,größe\n", "latin-1")
    with pytest.raises(DataError, match=f"{name} is not UTF-8 .*: save it as UTF-8"):
        find_samples(source)


def test_texts_of_tables_are_nfc(tmp_path: Path) -> None:
    assert texts(find_samples(table(tmp_path / "x.csv", [("a.png", NFD)]))) == [NFC]


def test_a_table_in_a_zip(tmp_path: Path) -> None:
    write_all(tmp_path / "in" / "deep", range(3))
    table(tmp_path / "in" / "labels.csv", [("deep/0002.png", "two"), ("deep/0000.png", "zero")])
    table(tmp_path / "in" / "deep" / "labels.csv", [("0001.png", "one")])
    archive = pack(tmp_path / "in", tmp_path / "x.zip")
    samples = find_samples(archive / "labels.csv")
    assert texts(samples) == ["two", "zero"] and grays(samples) == [2, 0]
    samples = find_samples(archive / "deep" / "labels.csv")
    assert texts(samples) == ["one"] and grays(samples) == [1]
    with pytest.raises(DataError, match="other.csv cannot be read: .*x.zip holds no other.csv"):
        find_samples(archive / "other.csv")


def test_files_of_a_table_may_lie_deeper(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    write(tmp_path / "in" / "images" / "a.png", 1)
    write(tmp_path / "in" / "more" / "images" / "b.png", 2)
    write(tmp_path / "in" / "c.png", 3)
    write(tmp_path / "in" / "images" / "c.png", 4)  # the one beside the table is meant
    table(tmp_path / "in" / "labels.csv", [("b.png", "B"), ("a.png", "A"), ("c.png", "C")])
    samples = find_samples(as_source(tmp_path / "in") / "labels.csv")
    assert texts(samples) == ["B", "A", "C"] and grays(samples) == [2, 1, 3]


def test_files_of_a_table_that_lie_in_several_folders_are_an_error(
    tmp_path: Path, as_source: Callable[[Path], Path]
) -> None:
    for folder in ("one", "two"):
        write(tmp_path / "in" / folder / "a.png")
    table(tmp_path / "in" / "labels.csv", [("a.png", "A")])
    with pytest.raises(DataError, match="names a.png, which lies in several folders: .*one.*two"):
        find_samples(as_source(tmp_path / "in") / "labels.csv")


def test_backslashes_in_the_names_of_a_table(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    write(tmp_path / "in" / "deep" / "down" / "a.png", 7)
    table(tmp_path / "in" / "labels.csv", [("deep\\down\\a.png", "A")])
    samples = find_samples(as_source(tmp_path / "in") / "labels.csv")
    assert texts(samples) == ["A"] and grays(samples) == [7]


@pytest.mark.parametrize(("on_disk", "in_table"), [(NFC, NFC), (NFD, NFD), (NFD, NFC), (NFC, NFD)])
def test_files_of_a_table_are_found_in_either_spelling(
    tmp_path: Path, as_source: Callable[[Path], Path], on_disk: str, in_table: str
) -> None:
    write(tmp_path / "in" / f"{on_disk}.png", 7)
    table(tmp_path / "in" / "labels.csv", [(f"{in_table}.png", "A")])
    assert grays(find_samples(as_source(tmp_path / "in") / "labels.csv")) == [7]


# --- texts for the pictures in their order ---------------------------------------------------------------------------


def numbered(folder: Path, numbers: Iterable[int] = (10, 2, 100, 1)) -> Path:
    """Pictures `captcha2.png`, written in another order than the natural one; their gray value is their number."""
    for number in numbers:
        write(folder / f"captcha{number}.png", number)
    return folder


@pytest.mark.parametrize("name", ["labels.txt", "labels.LST"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_list(tmp_path: Path, name: str, newline: str, last: str, encoding: str) -> None:
    content = "\n".join(["one", f" {NFD}", "a,b", "007"]) + last
    samples = find_samples(text_file(numbered(tmp_path) / name, content.replace("\n", newline), encoding))
    assert texts(samples) == ["one", NFC, "a,b", "007"] and grays(samples) == [1, 2, 10, 100]


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.txt", "A\nB\nC\nD\n"), ("x.csv", "label\nA\nB\nC\nD"), ("x.tsv", "Text\tid\nA\t5\nB\t6\nC\t7\nD\t8\n")],
)
def test_texts_for_the_pictures_in_their_natural_order(
    tmp_path: Path, as_source: Callable[[Path], Path], name: str, content: str
) -> None:
    numbered(tmp_path / "in" / "images")
    text_file(tmp_path / "in" / name, content)
    samples = find_samples(as_source(tmp_path / "in") / name)
    assert texts(samples) == ["A", "B", "C", "D"] and grays(samples) == [1, 2, 10, 100]


def test_a_list_belongs_to_the_pictures_beside_and_below_it(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    numbered(tmp_path / "in" / "one", (2, 1))
    numbered(tmp_path / "in" / "two", (4, 3))
    text_file(tmp_path / "in" / "two" / "x.txt", "A\nB")
    samples = find_samples(as_source(tmp_path / "in") / "two" / "x.txt")
    assert texts(samples) == ["A", "B"] and grays(samples) == [3, 4]


@pytest.mark.parametrize("content", ["A\nB\nC\n", "A\nB\nC\nD\nE"])
@pytest.mark.parametrize("name", ["x.txt", "x.csv"])
def test_another_number_of_texts_than_pictures_is_an_error_with_both(tmp_path: Path, content: str, name: str) -> None:
    source = text_file(numbered(tmp_path) / name, "label\n" * (name == "x.csv") + content)
    count = content.strip().count("\n") + 1
    with pytest.raises(DataError, match=f"{name} has {count} texts for 4 pictures in .*natural order"):
        find_samples(source)


@pytest.mark.parametrize(("content", "line"), [("A\n\nC\nD", 2), ("\nB\nC\nD", 1), ("A\nB\n \nD\n", 3), ("", 1)])
def test_a_line_without_a_text_is_an_error_with_its_number(tmp_path: Path, content: str, line: int) -> None:
    """Not passed over, for every text after it would slip to another picture."""
    with pytest.raises(DataError, match=f"x.txt has no text in line {line}:"):
        find_samples(text_file(numbered(tmp_path) / "x.txt", content))


def test_a_row_without_a_text_is_an_error_with_its_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="x.csv has no text in (line|row) 3:"):
        find_samples(text_file(numbered(tmp_path) / "x.csv", "label,id\nA,1\n,2\nC,3\nD,4\n"))


# --- sides that the source gives -------------------------------------------------------------------------------------


def test_a_column_of_sides(tmp_path: Path) -> None:
    named = {"train": "train", "Training": "train", "VAL": "val", "valid": "val", "validation ": "val", "Test": "test"}
    folders = ["test", "train"] * 3  # the table has the say
    source = table(
        tmp_path / "x.csv",
        [(f"{folder}/{i}.png", f"t{i}", name) for i, (folder, name) in enumerate(zip(folders, named, strict=True))],
        ("file", "label", "Split"),
    )
    assert [sample.side for sample in find_samples(source)] == list(named.values())


def test_a_column_of_sides_for_pictures_in_their_order(tmp_path: Path) -> None:
    source = table(
        numbered(tmp_path) / "x.csv", [*zip("ABCD", ["train", "val", "test", "train"], strict=True)], ("text", "split")
    )
    samples = find_samples(source)
    assert [(sample.text, sample.side) for sample in samples] == [
        ("A", "train"),
        ("B", "val"),
        ("C", "test"),
        ("D", "train"),
    ]
    assert grays(samples) == [1, 2, 10, 100]


@pytest.mark.parametrize("value", ["dev", "", "training set"])
def test_an_unknown_side_is_an_error(tmp_path: Path, value: str) -> None:
    rows = [("a.png", "A", "train"), ("b.png", "B", value)]
    said = rf"column split of .*x.csv must hold train, val or test; .* 1 file: b.png \('{value}'\)"
    with pytest.raises(DataError, match=said):
        find_samples(table(tmp_path / "x.csv", rows, ("file", "label", "split")))


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "validation", "TEST"),
        ("data/data/train", "data/data/valid", "data/data/test/x"),
        ("train", None, "test"),
        ("train", "val", None),
    ],
)
def test_folders_of_sides(
    tmp_path: Path, as_source: Callable[[Path], Path], names: tuple[str | None, str | None, str | None]
) -> None:
    for index, name in enumerate(names):
        if name:
            write_all(tmp_path / "in" / name, range(10 * index, 10 * index + 3))
    samples = find_samples(as_source(tmp_path / "in"))
    assert len(samples) == 3 * sum(map(bool, names))
    assert all(sample.side == SPLITS[int(sample.text) // 10] for sample in samples)


def test_folders_of_sides_below_a_table(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    write_all(tmp_path / "in" / "train", range(3))
    write_all(tmp_path / "in" / "test", range(3, 5))
    table(tmp_path / "in" / "x.csv", [("train/0001.png", "A"), ("test/0003.png", "B")])
    samples = find_samples(as_source(tmp_path / "in") / "x.csv")
    assert [(sample.text, sample.side) for sample in samples] == [("A", "train"), ("B", "test")]


@pytest.mark.parametrize("names", [("train", "more"), ("val", "test"), ("train",), ("trains", "tests")])
def test_folders_that_are_no_split_give_no_sides(tmp_path: Path, names: tuple[str, ...]) -> None:
    for index, name in enumerate(names):
        write_all(tmp_path / name, [index])
    assert [sample.side for sample in find_samples(tmp_path)] == [None] * len(names)


def test_pictures_called_like_sides_give_no_sides(tmp_path: Path) -> None:
    for name in SPLITS:
        write(tmp_path / f"{name}.png")
    assert {sample.side for sample in find_samples(tmp_path)} == {None}


@pytest.mark.parametrize("stray", ["0009.png", "more/0009.png"])
def test_pictures_beside_the_folders_of_a_split_are_an_error(
    tmp_path: Path, as_source: Callable[[Path], Path], stray: str
) -> None:
    for index, name in enumerate(("train", "test")):
        write_all(tmp_path / "in" / name, [index])
    write(tmp_path / "in" / stray)
    with pytest.raises(DataError, match=f"1 file: {stray} of .* beside its folders train, val, test: move"):
        find_samples(as_source(tmp_path / "in"))


# --- spellings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "text"), [("keep", "aBßÖ1"), ("upper", "ABßÖ1"), ("lower", "abßö1")])
def test_case(tmp_path: Path, case: str, text: str) -> None:
    write(tmp_path / "aBßÖ1.png")
    assert texts(find_samples(tmp_path, case=case)) == [text]
    assert texts(find_samples(table(tmp_path / "x.csv", [("a.png", "aBßÖ1")]), case=case)) == [text]


@pytest.mark.parametrize("case", ["upper", "lower"])
def test_case_changes_no_length_and_twice_is_once(case: str) -> None:
    """One character of a picture is one character of its text, for all of Unicode's first plane."""
    for character in map(chr, [*range(32, 0xD800), *range(0xE000, 0x10000)]):
        kept, changed = one_spelling(character), one_spelling(character, case)
        assert len(changed) == len(kept) and one_spelling(changed, case) == changed, hex(ord(character))


def test_a_column_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("file,label,label\n1.png,AB,CD\n")
    with pytest.raises(DataError, match=r"x.csv has the columns .'label'. twice"):
        find_samples(tmp_path / "x.csv", label_column="label")


def test_lines_of_a_table_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("file,label\n\n1.png,AB,1\n")
    with pytest.raises(DataError, match="more cells than columns in line 3"):
        find_samples(tmp_path / "x.csv")


def test_the_innermost_folder_gives_the_side(tmp_path: Path) -> None:
    for gray, side in enumerate(("train", "val", "test")):
        write(tmp_path / "training" / side / f"{gray:04d}.png", gray)
    assert [sample.side for sample in find_samples(tmp_path)] == ["test", "train", "val"]


@pytest.mark.parametrize(
    ("member", "name"),
    [
        ("/etc/ABCD.png", "etc/ABCD.png"),
        ("../../ABCD.png", "ABCD.png"),
        ("./ABCD.png", "ABCD.png"),
        ("x//ABCD.png", "x/ABCD.png"),
        ("x\\ABCD.png", "x/ABCD.png"),
        ("C:/x/ABCD.png", "x/ABCD.png"),
    ],
)
def test_names_in_a_zip_never_lead_out_of_it(tmp_path: Path, member: str, name: str) -> None:
    content = write(tmp_path / "one.png", 33).read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("placeholder.png")
        info.filename = member
        archive.writestr(info, content)
    (sample,) = find_samples(tmp_path / "x.zip")
    assert (sample.path, sample.text) == (tmp_path / "x.zip" / name, "ABCD")
    assert open_picture(sample.path).getpixel((0, 0)) == 33


def test_a_zip_that_holds_a_name_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a/ABCD.png", "./a/ABCD.png"):
            archive.writestr(name, b"")
    with pytest.raises(DataError, match="x.zip holds a/ABCD.png twice"):
        find_samples(tmp_path / "x.zip")


# --- suffixes --------------------------------------------------------------------------------------------------------


def labels(lengths: Iterable[int], count: int = 60, charset: str = "ABCDEFGHKMNPRSTUVWXYZ23456789") -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices(charset, k=draw.choice([*lengths]))) for _ in range(count)]


LABELS = {"one length": labels([4]), "several lengths": labels([4, 5, 6])}
SUFFIXES: dict[str, Callable[[int, random.Random], str]] = {
    "-0": lambda index, draw: "-0",
    "_1": lambda index, draw: "_1",
    "-number": lambda index, draw: f"-{index}",
    "_number": lambda index, draw: f"_{draw.randrange(10_000)}",
    "_hash": lambda index, draw: f"_{draw.getrandbits(128):032x}",
    "_short hash": lambda index, draw: f"_{draw.getrandbits(24):06x}",
    "_six digits": lambda index, draw: f"_{draw.randrange(10**6):06d}",
    "_HASH": lambda index, draw: f"_{draw.getrandbits(32):08X}",
    "-hash": lambda index, draw: f"-{draw.getrandbits(32):08x}",
    " (1)": lambda index, draw: f" ({index})",
    "(1)": lambda index, draw: f"({index})",
    " - Copy": lambda index, draw: " - Copy" + f" ({index})" * (index > 1),
    " copy 2": lambda index, draw: " copy" + f" {index}" * (index > 1),
}
COPIES = {
    name: SUFFIXES[name] for name in ("-number", "_number", " (1)", "(1)", " - Copy", " copy 2")
}  # only some have


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_suffix_of_all_names_is_taken_off_by_the_proposed_pattern(kind: str, suffix: str) -> None:
    draw = random.Random(1)
    stems = [label + SUFFIXES[suffix](index, draw) for index, label in enumerate(LABELS[kind])]
    pattern = propose_pattern(stems)
    assert pattern is not None
    assert [sample_text(Path(f"{stem}.png"), pattern) for stem in stems] == LABELS[kind]


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("suffix", COPIES)
def test_a_suffix_of_some_names_is_taken_off_by_the_proposed_pattern(kind: str, suffix: str) -> None:
    draw = random.Random(1)
    copies = [label + COPIES[suffix](index + 1, draw) for index, label in enumerate(LABELS[kind][:8])]
    stems = LABELS[kind] + copies
    pattern = propose_pattern(stems)
    assert pattern is not None
    assert [sample_text(Path(f"{stem}.png"), pattern) for stem in stems] == LABELS[kind] + LABELS[kind][:8]


@pytest.mark.parametrize(
    "stems",
    [
        *LABELS.values(),
        labels([5], charset="0123456789"),
        labels([6], charset="0123456789abcdef"),
        labels([5], charset="abc-.12"),
        labels([3, 4, 5, 6], charset="abc-.12"),
        labels([5], charset="AB_12"),
        ["a-b", "c.d", "e-f", "x.y"],
        ["1.5", "2.5", "10.25"],
        ["AB12", "CD34", "a-1"],
        ["AB-123", "ABC-12", "A-1234"],  # one length: each is a whole label
        ["abc", "abcde", "xyz-1", "xyw-2"],  # no other length than that of whole labels
        [f"captcha_{number}" for number in range(30)],
        [f"img-{number}" for number in range(30)],
        [f"captcha ({number})" for number in range(30)],
        [str(number) for number in range(30)],
        ["AB12_1"],
        [],
    ],
    ids=lambda stems: " ".join(stems[:3]),
)
def test_names_without_a_suffix_are_left_alone(stems: list[str]) -> None:
    assert propose_pattern(stems) is None


def test_proposed_patterns_are_regular_expressions_with_one_group() -> None:
    draw = random.Random(1)
    for suffix in SUFFIXES.values():
        pattern = propose_pattern([label + suffix(index, draw) for index, label in enumerate(LABELS["one length"])])
        assert pattern and re.compile(pattern).groups == 1
