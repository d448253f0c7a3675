"""The audit: nothing to say of a clean set, each finding exactly when its cause is there, counts as counted by hand."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.config import Config
from helpers.data.audit import Audit
from helpers.data.collection import Collection, collect
from helpers.data.finding import Finding
from helpers.models.recipes import RECIPES
from tests import verbs

CHARSET = "234678acdefh"
SIZE = (16, 80)  # (height, width), pixels, of the pictures and of the recipe
DRAWN = list(dict.fromkeys(map("".join, np.random.default_rng(0).choice(list(CHARSET), (80, 5)))))
TEXTS, SPARE = DRAWN[:60], DRAWN[60:]  # of a clean set, and for what is added to it


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delenv("CAPTCHA_TINY")
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path_factory.mktemp("work")))


def picture(name: str, size: tuple[int, int] = SIZE) -> Image.Image:
    """Another one for every name."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).integers(256, size=size, dtype=np.uint8)
    return Image.fromarray(noise)


def put(folder: Path, names: Iterable[str], size: tuple[int, int] = SIZE) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(name, size).save(folder / name)
    return folder


def pngs(texts: Iterable[str]) -> list[str]:
    return [f"{text}.png" for text in texts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clean set of 60 captchas."""
    return put(tmp_path / "captchas", pngs(TEXTS))


def collected(source: Path, **given: object) -> Collection:
    return collect(Config(**{"data": source, "recipe": "conv_ctc", "image_size": SIZE, "cache": False} | given))


def audited(source: Path, **given: object) -> Audit:
    return collected(source, **given).audit


def expect(audit: Audit, level: str, about: str, files: Iterable[str] | dict[str, str] = ()) -> Finding:
    """The only finding of the audit, which names exactly these files (and says this of each)."""
    assert [finding.about for finding in audit.findings] == [about]
    (finding,) = audit.findings
    named, expected = dict(finding.files), files if isinstance(files, dict) else dict.fromkeys(files)
    assert finding.level == level and len(named) == len(finding.files) and named.keys() == expected.keys()
    assert all(detail in (None, named[name]) for name, detail in expected.items())
    assert (audit.errors if level == "error" else audit.warnings) == [finding]
    return finding


def packed(folder: Path) -> Path:
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return folder.with_suffix(".zip")


def table(folder: Path, texts: Iterable[str] = TEXTS, columns: str = "file,label") -> Path:
    (folder / "labels.csv").write_text("\n".join([columns, *(f"{text}.png,{text}" for text in texts)]))
    return folder / "labels.csv"


def frames(text: str) -> int:
    """The steps that CTC needs for a text, by runs of equal letters: n of them need 2 n - 1 frames."""
    return sum(2 * len(list(run)) - 1 for _, run in groupby(text))


# --- findings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_clean_set_has_no_findings(folder: Path, recipe: str) -> None:
    for source in (lambda: folder, lambda: packed(folder), lambda: table(folder)):  # each made when its turn comes
        audit = audited(source(), recipe=recipe)
        assert audit.findings == [] and audit.images == 60
        assert "no errors\nno warnings" in str(audit)


def test_unreadable(folder: Path) -> None:
    (folder / f"{SPARE[0]}.png").write_bytes(b"")
    (folder / f"{SPARE[1]}.png").write_bytes((folder / f"{TEXTS[0]}.png").read_bytes()[:-1])
    (folder / f"{SPARE[2]}.jpg").write_bytes(b"no picture")
    finding = expect(audited(folder), "error", "unreadable", [*pngs(SPARE[:2]), f"{SPARE[2]}.jpg"])
    reasons = dict(finding.files)
    assert "empty" in reasons[f"{SPARE[0]}.png"] and "no image format" in reasons[f"{SPARE[2]}.jpg"]


def test_same_picture_two_texts(folder: Path) -> None:
    shutil.copy(folder / f"{TEXTS[0]}.png", folder / f"{SPARE[0]}.png")
    a, b = pngs([TEXTS[0], SPARE[0]])
    files = {a: f"the same picture as {b}", b: f"the same picture as {a}"}
    expect(audited(folder), "error", "same picture, two texts", files)


def test_unexpected_characters(folder: Path) -> None:
    files = {f"{text}.png": "has 'h'" for text in TEXTS if "h" in text}
    assert 0 < len(files) < 60
    finding = expect(audited(folder, charset=CHARSET.strip("h")), "error", "unexpected characters", files)
    assert "'234678acdef'" in finding.says
    assert audited(folder, charset=CHARSET + "z").findings == []


@pytest.mark.parametrize(("odd", "level"), [(2, "warning"), (3, "")])
def test_unexpected_lengths_are_those_of_less_than_a_twentieth(tmp_path: Path, odd: int, level: str) -> None:
    short = [text[:4] for text in SPARE[:odd]]
    audit = audited(put(tmp_path, pngs(TEXTS[odd:] + short)))
    if level:
        expect(audit, level, "unexpected lengths", {f"{text}.png": "4 characters" for text in short})
    else:
        assert audit.findings == []


def test_unexpected_lengths_are_all_but_the_usual_one_for_a_fixed_length(tmp_path: Path) -> None:
    others = [text[:4] for text in TEXTS[:12]] + [text + text[:2] for text in TEXTS[12:24]]
    source = put(tmp_path, pngs(TEXTS[24:] + others))
    finding = expect(audited(source, recipe="resnet18"), "error", "unexpected lengths", pngs(others))
    assert "the recipe resnet18" in finding.says and "5 characters" in finding.says
    assert audited(source).findings == []


@pytest.mark.parametrize(("width", "other"), [(86, False), (74, False), (90, True), (70, True)])
def test_shapes_may_differ_by_a_tenth_for_a_fixed_length(folder: Path, width: int, other: bool) -> None:
    put(folder, pngs(SPARE[:2]), (16, width))
    if not other:
        assert audited(folder).findings == []
    if other:
        files = {f"{text}.png": f"{width} x 16" for text in SPARE[:2]}
        kept = expect(audited(folder), "warning", "shapes", files)  # a CTC recipe keeps all for the sake of two
        assert "padded" in kept.says and "CAPTCHA_ASPECT=squeeze" in kept.remedy
        expect(audited(folder, recipe="resnet18"), "error", "shapes", files)
        expect(audited(folder, recipe="resnet18", aspect="squeeze"), "warning", "shapes", files)
    else:
        assert audited(folder, recipe="resnet18").findings == []


def test_too_long_counts_a_blank_between_equal_neighbours(folder: Path) -> None:
    """20 pixels of width are five steps: enough for five letters, unless two equal ones follow each other."""
    doubled = {text: frames(text) for text in TEXTS if frames(text) > 5}
    assert 5 < len(doubled) < 55 and max(doubled.values()) > 6
    files = {f"{text}.png": f"{text!r} needs {needed}, has 5" for text, needed in doubled.items()}
    expect(audited(folder, image_size=(16, 20)), "error", "too long", files)
    assert audited(folder, image_size=(16, 20), recipe="resnet18").findings == []  # it has as many heads as letters


def test_not_in_the_table(folder: Path) -> None:
    put(folder, pngs(SPARE[:3]))
    source = table(folder)
    expect(audited(source), "warning", "not in the table", pngs(SPARE[:3]))
    expect(audited(packed(folder) / "labels.csv"), "warning", "not in the table", pngs(SPARE[:3]))


def test_not_named_like_pictures(folder: Path) -> None:
    for name in ("deep/x", "x.dat"):
        (folder / name).parent.mkdir(exist_ok=True)
        picture(name).save(folder / name, "png")
    expect(audited(folder), "warning", "not named like pictures", ["deep/x", "x.dat"])


def test_tables_and_lists(folder: Path) -> None:
    table(folder)
    expect(audited(folder), "warning", "tables and lists", ["labels.csv"])
    expect(audited(packed(folder)), "warning", "tables and lists", ["labels.csv"])


def test_other_files(folder: Path) -> None:
    (folder / "Thumbs.db").write_bytes(b"no picture")
    expect(audited(folder), "warning", "other files", ["Thumbs.db"])


def test_misnamed(folder: Path) -> None:
    picture(SPARE[0]).save(folder / f"{SPARE[0]}.bmp", "png")
    picture(SPARE[1]).save(folder / f"{SPARE[1]}.jpg", "gif")
    for suffix, text in zip(("JPG", "jpeg", "tif", "TIFF", "bmp", "webp"), SPARE[2:8], strict=True):
        picture(text).save(folder / f"{text}.{suffix}")  # these are right
    findings = {finding.about: finding for finding in audited(folder).findings}
    assert findings.keys() == {"misnamed", "stray modes"}  # WebP is always in colour
    assert dict(findings["misnamed"].files) == {f"{SPARE[0]}.bmp": "PNG", f"{SPARE[1]}.jpg": "GIF"}


def test_suffixes_are_proposed_and_not_applied(tmp_path: Path) -> None:
    stems = [f"{text}_{i}" for i, text in enumerate(TEXTS)]
    found = collected(put(tmp_path, pngs(stems)))
    finding = next(finding for finding in found.audit.findings if finding.about == "suffixes")
    pattern = re.search(r"label_pattern=r'(.+)'", finding.remedy)[1]
    first = found.samples[0].text
    assert finding.level == "warning" and f"{first!r} would be {first.partition('_')[0]!r}" in finding.says
    assert sorted(sample.text for sample in found.samples) == sorted(stems)
    assert found.audit.lengths == {"8": 50, "7": 10} and "_" in found.audit.characters
    followed = collected(tmp_path, label_pattern=pattern)
    assert sorted(sample.text for sample in followed.samples) == sorted(TEXTS) and not followed.audit.findings


@pytest.mark.parametrize(
    ("stems", "running"),
    [
        ([str(2000 + i) for i in range(60)], True),
        ([f"captcha{i}" for i in range(60)], True),
        ([f"captcha_{i:04d}" for i in range(60)], True),
        ([str(2000 + 2 * i) for i in range(60)], False),
        ([f"{text}{i}" for i, text in enumerate(TEXTS)], False),
    ],
)
def test_running_numbers(tmp_path: Path, stems: list[str], running: bool) -> None:
    audit = audited(put(tmp_path, pngs(stems)))
    assert ("running numbers" in {finding.about for finding in audit.warnings}) == running
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *(f"{stem}.png,{stem}" for stem in stems)]))
    by_table = audited(tmp_path / "labels.csv")  # a table means what it says
    assert "running numbers" not in {finding.about for finding in by_table.findings}


@pytest.mark.parametrize(("odd", "stray"), [(2, True), (3, False)])
def test_stray_modes_are_those_of_less_than_a_twentieth(folder: Path, odd: int, stray: bool) -> None:
    for text in TEXTS[:odd]:
        picture(text).convert("RGB").save(folder / f"{text}.png")
    if stray:
        finding = expect(audited(folder), "warning", "stray modes", dict.fromkeys(pngs(TEXTS[:odd]), "RGB"))
        assert "another mode than L" in finding.says
    else:
        assert audited(folder).findings == []


@pytest.mark.parametrize("times", [9, 10])
def test_rare_characters(tmp_path: Path, times: int) -> None:
    texts = [*TEXTS[times:], *(text[:4] + "k" for text in TEXTS[:times])]
    audit = audited(put(tmp_path, pngs(texts)))
    assert audit.characters["k"] == times
    if times < 10:
        assert "fewer than 10 times" in (finding := expect(audit, "warning", "rare characters")).says
        assert finding.says.endswith(": k: 9")
    else:
        assert audit.findings == []


@pytest.mark.parametrize(
    ("odd", "marks", "kind"),
    [
        ("!", "!", "other characters"),
        ("XY", "XY", "capital letters"),
        ("acdef", "acdef", "small letters"),
        ("23", "23", "digits"),
    ],
)
def test_stray_characters_are_of_a_kind_that_less_than_a_twentieth_have(
    tmp_path: Path, odd: str, marks: str, kind: str
) -> None:
    """In a set of digits, or of small letters where digits are what is odd."""
    usual = "acdefh" if kind == "digits" else "456789"
    texts = ["".join(np.random.default_rng(i).permutation(list(usual))) for i in range(100)]
    texts = [odd + text[len(odd) :] for text in texts[:2]] + texts[2:]
    audit = audited(put(tmp_path, pngs(texts)))
    finding = next(finding for finding in audit.warnings if finding.about == "stray characters")
    assert dict(finding.files) == {f"{text}.png": f"has {marks!r} in {text!r}" for text in texts[:2]}
    assert finding.says == f"{kind} stand in 2 of {len(set(texts))} texts only"
    assert {other.about for other in audit.findings} <= {"stray characters", "rare characters"}


@pytest.mark.parametrize(("odd", "stray"), [(2, {"stray characters"}), (3, set())])
def test_stray_characters_are_no_longer_stray_from_a_twentieth_on(tmp_path: Path, odd: int, stray: set[str]) -> None:
    texts = [*TEXTS[odd:], *(text[:4] + "!" for text in TEXTS[:odd])]
    audit = audited(put(tmp_path, pngs(texts)))
    assert {finding.about for finding in audit.findings} == {"rare characters"} | stray


def test_identical_files(folder: Path) -> None:
    (folder / "zz").mkdir()
    for name in pngs(TEXTS[:2]):
        shutil.copy(folder / name, folder / "zz")
    files = {f"zz/{name}": f"as {name}" for name in pngs(TEXTS[:2])}
    expect(audited(folder), "warning", "identical files", files)


def test_identical_pictures(folder: Path) -> None:
    """Of other bytes or formats, and yet the same to look at; a pair of identical files is not named twice."""
    first, second, third = pngs(TEXTS[:3])
    for below in ("zz", "zzz"):
        (folder / below).mkdir()
    picture(first).save(folder / "zz" / first, compress_level=0)
    picture(second).save(folder / "zz" / f"{TEXTS[1]}.bmp")
    files = {f"zz/{first}": f"as {first}", f"zz/{TEXTS[1]}.bmp": f"as {second}"}
    expect(audited(folder), "warning", "identical pictures", files)
    shutil.copy(folder / third, folder / "zz")
    shutil.copy(folder / first, folder / "zzz")
    assert {finding.about: dict(finding.files) for finding in audited(folder).findings} == {
        "identical files": {f"zz/{third}": f"as {third}", f"zzz/{first}": f"as {first}"},
        "identical pictures": files | {f"zzz/{first}": f"as {first}"},
    }


@pytest.mark.parametrize("mode", ["RGB", "P", "LA", "RGBA", "CMYK"])
def test_the_same_gray_in_another_mode_is_the_same_picture(folder: Path, mode: str) -> None:
    name, copy = f"{TEXTS[0]}.png", f"{SPARE[0]}.{'tif' if mode == 'CMYK' else 'png'}"
    picture(name).convert(mode).save(folder / copy)
    (error,) = audited(folder).errors
    assert error.about == "same picture, two texts" and {name for name, _ in error.files} == {name, copy}


def test_both_cases(tmp_path: Path) -> None:
    texts = [text.upper() if i % 2 else text for i, text in enumerate(DRAWN)]
    finding = expect(audited(put(tmp_path, pngs(texts))), "warning", "both cases")
    assert finding.says.endswith(": acdefh")
    assert audited(tmp_path, case="upper").findings == []


def test_case(folder: Path) -> None:
    """In a folder of their own: some file systems hold only one of two names that differ in case."""
    capitals = {text: text.upper() for text in TEXTS if not text.isdigit()}
    put(folder, (f"zz/{text}.png" for text in capitals.values()))
    both, case = audited(folder).findings
    assert [both.about, case.about, case.level] == ["both cases", "case", "warning"]
    small, large = {f"{text}.png": text for text in capitals}, {f"zz/{text}.png": text for text in capitals.values()}
    assert dict(case.files) == small | large
    assert audited(folder, case="lower").findings == []


def test_animations(folder: Path) -> None:
    first, second = picture("first"), picture("second")
    first.save(folder / f"{SPARE[0]}.png", save_all=True, append_images=[second])
    expect(audited(folder), "warning", "animations", {f"{SPARE[0]}.png": "2 frames"})


# --- counts ----------------------------------------------------------------------------------------------------------


def ranked(values: Iterable[object]) -> list[tuple[str, int]]:
    """Counts from the most frequent, by hand."""
    return sorted(Counter(map(str, values)).items(), key=lambda item: (-item[1], item[0]))


def test_counts(tmp_path: Path) -> None:
    """Some JPEG, some in colour, of two widths, of three to five letters, some texts twice."""
    texts = [text[: 3 + i % 3] for i, text in enumerate(DRAWN)] + DRAWN[:7]
    formats = ["JPEG" if i % 4 == 0 else "PNG" for i in range(len(texts))]
    modes = ["RGB" if i % 3 == 0 else "L" for i in range(len(texts))]
    widths = [40 if i % 5 < 2 else 80 for i in range(len(texts))]
    for i, (text, format, mode, width) in enumerate(zip(texts, formats, modes, widths, strict=True)):
        (tmp_path / str(i)).mkdir()
        picture(str(i), (16, width)).convert(mode).save(tmp_path / str(i) / f"{text}.{format.lower()}")
    audit = audited(tmp_path)
    assert audit.images == len(texts) == 87 - 80 + len(DRAWN)
    for counted, values in (
        (audit.formats, formats),
        (audit.modes, modes),
        (audit.sizes, [f"{width}x16" for width in widths]),
        (audit.lengths, map(len, texts)),
        (audit.characters, "".join(texts)),
    ):
        assert list(counted.items()) == ranked(values) and len(counted) > 1
    assert audit.texts == len(set(texts)) < len(texts)
    assert list(audit.repeated_texts.items()) == [(text, count) for text, count in ranked(texts) if count > 1]
    assert audit.doubled == sum(re.search(r"(.)\1", text) is not None for text in texts) > 5
    said = str(audit)
    assert f"formats   PNG: {formats.count('PNG')}, JPEG: {formats.count('JPEG')}  (by content)" in said
    assert f"charset   12 characters: {CHARSET}" in said and f"doubled   {audit.doubled} images" in said


def collapse(path: Iterable[str]) -> str:
    return "".join(letter for letter, _ in groupby(path)).replace("-", "")


@pytest.mark.parametrize("text", ["a", "ab", "aa", "aab", "abba", "aaa", "abab"])
def test_the_steps_that_a_text_needs_are_those_of_its_shortest_alignment(text: str) -> None:
    shortest = next(T for T in range(8) if any(collapse(path) == text for path in product("ab-", repeat=T)))
    assert frames(text) == shortest


@pytest.mark.parametrize("recipe", ["conv_ctc", "cnn_gru_ctc"])
def test_steps_are_of_the_text_that_has_least_room(tmp_path: Path, recipe: str) -> None:
    """A step is four pixels wide, and widths are filled up to multiples of 16."""
    widths = [30 + 5 * (i % 10) for i in range(60)]
    for text, width in zip(TEXTS, widths, strict=True):
        put(tmp_path, pngs([text]), (16, width))
    room = {text: (frames(text), -(-width // 16) * 4) for text, width in zip(TEXTS, widths, strict=True)}
    tightest = max(needed / given for needed, given in room.values())
    steps = (audit := audited(tmp_path, recipe=recipe)).steps
    assert steps["needed"] / steps["available"] == tightest
    assert room[steps["text"]] == (steps["needed"], steps["available"])
    said = "{needed} of {available} steps of the network are needed by {text!r}".format(**steps)
    assert said in str(audit)


def test_steps_of_a_fixed_length_are_its_letters(folder: Path) -> None:
    steps = audited(folder, recipe="resnet18").steps
    assert (steps["needed"], steps["available"]) == (5, 5)


# --- reports ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(folder: Path) -> tuple[Path, list[str]]:
    """Eight empty files among the clean set: (folder, their names)."""
    names = [f"ö{text}.png" for text in SPARE[:8]]
    for name in names:
        (folder / name).touch()
    return folder, names


def test_the_report_in_json_names_every_file_and_the_text_five(damaged: tuple[Path, list[str]]) -> None:
    folder, names = damaged
    audit = audited(folder)
    assert sum(name in str(audit) for name in names) == 5 and "8 files: " in str(audit) and ", ...\n" in str(audit)
    facts = json.loads(audit.to_json())
    (unreadable,) = (finding for finding in facts["findings"] if finding["about"] == "unreadable")
    assert sorted(name for name, _ in unreadable["files"]) == sorted(names)
    assert names[0] in audit.to_json()  # as it is, not as \u00f6
    findings = [Finding(**{**finding, "files": [*map(tuple, finding["files"])]}) for finding in facts["findings"]]
    assert Audit(**{**facts, "findings": findings}) == audit


def test_a_set_of_which_nothing_can_be_read_has_a_report(tmp_path: Path) -> None:
    for name in pngs(TEXTS[:3]):
        (tmp_path / name).touch()
    audit = audited(tmp_path)
    assert json.loads(audit.to_json())["images"] == 3 and len(audit.errors[0].files) == 3
    assert "cannot read: 3 files" in str(audit)
    assert command(tmp_path) == 1


# --- on the command line ---------------------------------------------------------------------------------------------


def command(*arguments: object) -> int:
    """The exit status; argparse leaves by an exception."""
    try:
        return verbs.audit([str(argument) for argument in ("--recipe", "conv_ctc", *arguments)])
    except SystemExit as left:
        return left.code


def test_exit_0_without_errors_even_with_warnings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source in (lambda: folder, lambda: packed(folder), lambda: table(folder)):
        assert command(source()) == 0
        said = capsys.readouterr().out
        assert said.startswith("Audit of ") and "images    60\n" in said and said.endswith("no errors\nno warnings\n")
    assert command(folder) == 0  # beside a table now
    assert "WARNINGS\n  tables and lists: left out: 1 file: labels.csv" in capsys.readouterr().out


def test_exit_1_with_errors(damaged: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    folder, names = damaged
    assert command(folder) == command(packed(folder)) == 1
    assert f"ERRORS\n  unreadable: cannot read: 8 files: {sorted(names)[0]}" in capsys.readouterr().out
    assert command(table(folder, [*TEXTS, "missing"])) == 1
    assert "1 file: missing.png (FileNotFoundError" in capsys.readouterr().out


def test_exit_2_where_there_is_nothing_to_audit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    (folder / "x.csv").write_text("a,b\n1,2\n")
    for arguments, said in (
        ([folder / "nowhere"], "nowhere does not exist: name a folder, a zip, a table"),
        ([folder / "empty"], "empty holds no pictures"),
        ([folder / "x.csv"], "`file` and `label` are expected in its first line"),
        ([folder / f"{TEXTS[0]}.png"], "is neither a folder nor a zip"),
        ([folder, "--label-pattern", ".+"], "has no group"),
        ([folder, "--case", "title"], "case='title' cannot be used: it must be 'keep', 'upper' or 'lower'"),
        ([folder, "--rare", "few"], "invalid int value: 'few'"),
        ([folder, "--charset", "aa"], "more than once"),
        ([], "the following arguments are required: SOURCE"),
    ):
        assert command(*arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and said in err


def test_options_reach_the_audit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(folder, columns="picture,text").rename(folder / "x.csv")
    put(folder, (f"{text}_1.png" for text in TEXTS))
    put(folder, ["ABCDE.png"], (16, 200))
    some = ("--file-column", "picture", "--label-column", "text")
    for arguments, status, said in (
        ([source, *some], 0, "lengths   5: 60  (characters)"),
        ([source, *some, "--case", "upper"], 0, "charset   12 characters: 234678ACDEFH"),
        ([source, *some, "--charset", "abc"], 1, "unexpected characters: texts have characters that the charset 'abc'"),
        ([source, *some, "--rare", "1000"], 0, "fewer than 1000 times can hardly be learned"),
        ([folder], 0, "lengths   5: 61, 7: 60"),
        ([folder, "--label-pattern", "([^_]+).*"], 0, "lengths   5: 121"),
        ([folder, "--recipe", "resnet18"], 1, "ABCDE.png (200 x 16)"),
        ([folder, "--recipe", "resnet18", "--aspect", "squeeze"], 1, "squeezed to one, as aspect='squeeze' says"),
    ):
        assert (command(*arguments), said in capsys.readouterr().out) == (status, True), arguments


def test_reports_are_written(damaged: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, names = damaged
    assert command(folder, "--json", tmp_path / "audit.json", "--sheet", tmp_path / "sheet.png") == 1
    facts = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    assert facts["images"] == 68 and {name for name, _ in facts["findings"][0]["files"]} == set(names)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    assert min(sheet.shape) > 100 and sheet.std() > 5


def test_synthetic_captchas_can_be_audited(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("synthetic:count=12,style=clean") == 0
    assert "images    12\n" in capsys.readouterr().out


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


def test_the_audit_changes_nothing(damaged: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Neither does the cache, which is on here: it lies in the work folder."""
    folder, _ = damaged
    put(folder, [f"{text}-0.png" for text in TEXTS])  # there is something to propose
    sources = [folder, packed(folder), table(folder)]
    before = contents(tmp_path)
    for _ in range(2):  # with and without a cache
        assert [command(source) for source in sources] == [1, 1, 0]  # the table names none of the damaged files
    assert contents(tmp_path) == before


def test_a_damaged_set_says_the_same_from_the_cache(damaged: tuple[Path, list[str]]) -> None:
    folder, _ = damaged
    first, second = (audited(folder, cache=True) for _ in range(2))
    assert first == second == audited(folder)


def test_the_command_itself(damaged: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, names = damaged
    options = ["--recipe", "conv_ctc", "--json", "audit.json"]
    left = subprocess.run(
        [sys.executable, "-m", "helpers", "audit", folder.name, *options],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert left.returncode == 1 and "Traceback" not in left.stderr
    assert left.stdout.startswith(f"Audit of {folder}\n") and names[0] in left.stdout
    assert json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["images"] == 68


def test_many_shapes_are_no_finding_for_a_recipe_that_keeps_them(folder: Path) -> None:
    put(folder, pngs(SPARE[:20]), (16, 120))
    assert audited(folder).findings == []


def test_a_sheet_of_nothing_and_a_report_that_cannot_be_written(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "AB.png").write_bytes(b"no picture")
    assert verbs.audit([str(tmp_path / "bad"), "--sheet", str(tmp_path / "sheet.png")]) == 1
    assert not (tmp_path / "sheet.png").exists()
    for option, name in (("--json", "nowhere/a.json"), ("--sheet", "a.xyz")):
        with pytest.raises(SystemExit) as stopped:
            verbs.audit([str(folder), option, str(tmp_path / name)])
        assert stopped.value.code == 2 and "the report cannot be written" in capsys.readouterr().err


def test_an_error_says_too_what_may_be_behind_it(tmp_path: Path) -> None:
    """Names with a long suffix are too long for the network; the message proposes to cut the suffix."""
    names = [f"{text}_{zlib.crc32(text.encode()):08x}{'0' * 24}.png" for text in TEXTS]
    found = collect(Config(data=put(tmp_path, names), recipe="conv_ctc"))
    with pytest.raises(ValueError, match=r"too long: .*\n(.*\n)*suffixes: .*\n.*CAPTCHA_LABEL_PATTERN"):
        found.usable("error")


def test_a_table_that_begins_like_a_picture_is_a_table(folder: Path) -> None:
    (folder / "labels.txt").write_text("BM4K7")
    expect(audited(folder), "warning", "tables and lists", ["labels.txt"])
