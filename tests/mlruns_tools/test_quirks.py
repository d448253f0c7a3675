"""Quirks of captcha sets in the wild, one by one: loaded right, pixels and text, or refused with a name and a remedy."""

import io
import re
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from helpers.config import Config
from helpers.data.collection import collect
from helpers.data.finding import Finding
from helpers.data.module import CaptchaData, load_data
from helpers.pictures.opening import DataError
from helpers.sources.names import SPLITS, relative_name

SIZE = (16, 80)  # (height, width), pixels, of the pictures and of the recipe: nothing is scaled
TEXTS = ["".join(letters) for letters in permutations("kmpt")]  # 24: one odd one among them is below a share of 5 %
PNGS = [f"{text}.png" for text in TEXTS]
JPEG_LOSS = 4  # gray levels
MODES = (
    *((mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("I;16", "tif"), ("CMYK", "tif"), ("CMYK", "jpg")),
)


@pytest.fixture(autouse=True)
def full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTCHA_TINY")


def drawn(name: str, size: tuple[int, int] = SIZE, channels: int = 1) -> np.ndarray:
    """The picture that belongs to a file's name, in whatever folder: blocks that JPEG keeps. uint8 (H, W, C)."""
    height, width = size
    stem = unicodedata.normalize("NFC", Path(name).name)
    rng = np.random.default_rng(zlib.crc32(stem.encode()))
    blocks = rng.integers(256, size=(-(-height // 8), -(-width // 8), channels), dtype=np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)[:height, :width]


def encoded(picture: Image.Image, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **({"quality": 95} if format == "JPEG" else {}))
    return file.getvalue()


def content(name: str, format: str = "PNG") -> bytes:
    """What a file of that name holds, where the quirk is not its picture."""
    return encoded(Image.fromarray(drawn(name)[..., 0]), format)


def put(folder: Path, names: Iterable[str], format: str = "PNG", below: str = "") -> Path:
    """Writes the pictures of these names into a folder."""
    for name in names:
        path = folder / below / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(name, format))
    return folder


@pytest.fixture(params=["folder", "zip"])
def as_source(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Path]:
    """A folder as it is, or the zip of it."""

    def packed(folder: Path) -> Path:
        archive = tmp_path / "packed.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder))
        return archive

    return packed if request.param == "zip" else lambda folder: folder


Source = Callable[[Path], Path]


def config(source: Path, **settings: object) -> Config:
    given = {"data": source, "recipe": "conv_ctc", "image_size": SIZE, "augment": False, "cache": False, "crop": False}
    return Config(**given | settings)


def load(source: Path, **settings: object) -> CaptchaData:
    return load_data(config(source, **settings))


def loaded(data: CaptchaData, truth: Callable[[str], np.ndarray] = drawn, tolerance: int = 0) -> dict[str, str]:
    """{file: text} of everything that was loaded, after a look that each picture is the one drawn for its file."""
    texts = {}
    for dataset in data.sides.values():
        for sample, image in zip(dataset.samples, dataset.images, strict=True):
            name = relative_name(sample.path, data.source)
            assert np.abs(image.astype(int) - truth(name)).max() <= tolerance, name
            texts[name] = sample.text
    return texts


def sides(data: CaptchaData) -> dict[str, str]:
    """{file: side}."""
    return {name: side for name, _, side, _ in data.split_rows()}


def findings(data: CaptchaData) -> dict[str, Finding]:
    return {finding.about: finding for finding in data.audit.findings}


def files(finding: Finding) -> dict[str, str]:
    """{file: what about it}."""
    return dict(finding.files)


def by_stem(names: Iterable[str]) -> dict[str, str]:
    return {name: Path(name).stem for name in names}


# --- pictures --------------------------------------------------------------------------------------------------------


def test_png_names_over_jpeg_bytes_are_read_by_content(tmp_path: Path, as_source: Source) -> None:
    data = load(as_source(put(tmp_path / "in", PNGS, "JPEG")))
    assert loaded(data, tolerance=JPEG_LOSS) == by_stem(PNGS)
    assert data.audit.formats == {"JPEG": 24}
    assert files(findings(data)["misnamed"]) == dict.fromkeys(PNGS, "JPEG")


def painted(name: str, mode: str) -> tuple[Image.Image, np.ndarray]:
    """A picture of that mode, and how it looks on white paper: uint8 (H, W, 3), or (H, W, 1) where it is gray."""
    inks = drawn(name, channels=4).astype(int)  # (H, W, 4)
    colours, gray, last = inks[..., :3], inks[..., :1], inks[..., 3:]
    if mode == "1":
        return Image.fromarray(gray[..., 0] > 127), (gray > 127) * 255
    if mode == "I;16":
        deep = gray * 256 + last
        return Image.fromarray(deep[..., 0].astype(np.uint16)), (deep / 257).round()
    if mode == "P":
        blocks = np.arange(20, dtype=np.uint8).reshape(2, 10).repeat(8, 0).repeat(8, 1)
        picture = Image.fromarray(blocks)
        picture.putpalette(colours[::8, ::8].flatten().tolist())
        return picture, colours
    if mode == "CMYK":
        bands = [Image.fromarray(inks[..., band].astype(np.uint8)) for band in range(4)]
        return Image.merge(mode, bands), ((255 - colours) * (255 - last) / 255).round()
    shown = gray if mode in ("L", "LA") else colours
    picture = Image.fromarray(shown.astype(np.uint8).squeeze())
    if mode in ("LA", "RGBA"):
        picture.putalpha(Image.fromarray(last[..., 0].astype(np.uint8)))
        shown = (shown * last / 255 + 255 - last).round()
    return picture, shown


def paint(path: Path, mode: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(
        encoded(painted(path.name, mode)[0], {"png": "PNG", "tif": "TIFF", "jpg": "JPEG"}[path.suffix[1:]])
    )


@pytest.mark.parametrize(("mode", "suffix"), MODES)
def test_every_mode_is_read_as_a_person_sees_it(tmp_path: Path, mode: str, suffix: str) -> None:
    names = [f"{text}.{suffix}" for text in TEXTS]
    for name in names:
        paint(tmp_path / "in" / name, mode)
    data = load(tmp_path / "in", recipe="cnn_gru_ctc")  # three channels
    assert data.audit.modes == {mode: 24} and not data.audit.findings
    loss = JPEG_LOSS if suffix == "jpg" else 1
    assert loaded(data, lambda name: painted(name, mode)[1], loss) == by_stem(names)


def test_all_modes_in_one_folder(tmp_path: Path, as_source: Source) -> None:
    kinds = {f"{text}.{suffix}": mode for text, (mode, suffix) in zip(TEXTS, MODES * 3, strict=False)}
    for name, mode in kinds.items():
        paint(tmp_path / "in" / name, mode)
    data = load(as_source(tmp_path / "in"), recipe="cnn_gru_ctc")
    assert loaded(data, lambda name: painted(name, kinds[name])[1], JPEG_LOSS) == by_stem(kinds)
    assert data.audit.modes == dict(sorted(Counter(kinds.values()).items(), key=lambda item: (-item[1], item[0])))
    assert not data.audit.findings


@pytest.mark.parametrize(("suffix", "format"), [("JPG", "JPEG"), ("Jpeg", "JPEG"), ("PNG", "PNG")])
def test_suffixes_in_capitals(tmp_path: Path, as_source: Source, suffix: str, format: str) -> None:
    names = [f"{text}.{suffix}" for text in TEXTS]
    data = load(as_source(put(tmp_path / "in", names, format)))
    assert loaded(data, tolerance=JPEG_LOSS) == by_stem(names) and not data.audit.findings


def test_truncated_and_empty_files_are_refused_by_name_or_left_out(tmp_path: Path, as_source: Source) -> None:
    folder = put(tmp_path / "in", PNGS)
    (folder / "kk.png").write_bytes(b"")
    (folder / "mm.png").write_bytes(content("mm.png")[:-20])
    (folder / "pp.jpg").write_bytes(content("pp.jpg", "JPEG")[:-20])
    source = as_source(folder)
    with pytest.raises(DataError) as caught:
        load(source)
    said = str(caught.value)
    assert re.search(r"cannot read: 3 files: kk\.png \(.*is empty\), mm\.png \(.*\), pp\.jpg \(.*\)\n", said)
    assert "mend or remove them, or set on_bad='skip' (CAPTCHA_ON_BAD=skip)" in said
    data = load(source, on_bad="skip")
    assert loaded(data) == by_stem(PNGS)
    assert [name for name, reason in data.bad if reason.startswith("unreadable: ")] == ["kk.png", "mm.png", "pp.jpg"]
    assert "left out: 3 files: kk.png (unreadable: " in str(data)


def test_widths_from_72_to_780_keep_their_shape_for_ctc(tmp_path: Path, as_source: Source) -> None:
    source, widths = put_widths(tmp_path / "in", as_source)
    data = load(source)
    assert not data.audit.findings and len(data.audit.sizes) == 24

    def padded(name: str) -> np.ndarray:
        return np.pad(drawn(name, (16, widths[name])), ((0, 0), (0, -widths[name] % 16), (0, 0)), mode="edge")

    assert loaded(data, padded) == by_stem(PNGS)


def put_widths(folder: Path, as_source: Source) -> tuple[Path, dict[str, int]]:
    """Pictures of one height and 24 widths: (source, {file: width in pixels})."""
    widths = dict(zip(PNGS, np.linspace(72, 780, 24).astype(int).tolist(), strict=True))
    folder.mkdir()
    for name, width in widths.items():
        (folder / name).write_bytes(encoded(Image.fromarray(drawn(name, (16, width))[..., 0])))
    return as_source(folder), widths


def test_widths_from_72_to_780_are_refused_by_resnet18(tmp_path: Path, as_source: Source) -> None:
    source, widths = put_widths(tmp_path / "in", as_source)
    with pytest.raises(DataError) as caught:
        load(source, recipe="resnet18")
    said = str(caught.value)
    assert "the recipe resnet18 reads one shape; another shape than 72 x 16, width x height in pixels: 23 files" in said
    assert f"{PNGS[1]} (102 x 16)" in said
    assert "take a CTC recipe, which keeps shapes, or set aspect='squeeze' (CAPTCHA_ASPECT=squeeze)" in said
    (error,) = collect(config(source, recipe="resnet18")).audit.errors
    assert files(error) == {name: f"{widths[name]} x 16" for name in PNGS[1:]}
    squeezed = load(source, recipe="resnet18", aspect="squeeze")
    assert {image.shape for side in SPLITS for image in squeezed.sides[side].images} == {(*SIZE, 1)}
    assert findings(squeezed).keys() == {"shapes"}


# --- what lies beside and around -------------------------------------------------------------------------------------


def test_files_that_are_no_captchas_are_left_out(tmp_path: Path, as_source: Source) -> None:
    folder = put(tmp_path / "in", PNGS)
    hidden = ("._kmpt.png", ".DS_Store", "__MACOSX/._kmpt.png", "__MACOSX/in/kmpt.png")
    for name in ("Thumbs.db", "notes.txt", "deep/Thumbs.db", *hidden):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0\5\26\7 no picture")
    data = load(as_source(folder))
    assert loaded(data) == by_stem(PNGS)
    assert {about: list(files(finding)) for about, finding in findings(data).items()} == {
        "other files": ["Thumbs.db", "deep/Thumbs.db"],
        "tables and lists": ["notes.txt"],
    }


@pytest.mark.parametrize("below", ["captchas/captchas", "in/in/in"])
def test_doubled_folders(tmp_path: Path, as_source: Source, below: str) -> None:
    data = load(as_source(put(tmp_path / "in", PNGS, below=below)))
    assert loaded(data) == by_stem(f"{below}/{name}" for name in PNGS) and not data.audit.findings


def test_a_set_that_lies_in_its_own_folder_once_more_stays_on_one_side(tmp_path: Path, as_source: Source) -> None:
    data = load(as_source(put(put(tmp_path / "in", PNGS), PNGS, below="zz")))
    assert loaded(data) == by_stem([*PNGS, *(f"zz/{name}" for name in PNGS)])
    assert files(findings(data)["identical files"]) == {f"zz/{name}": f"as {name}" for name in PNGS}
    assert all(sides(data)[name] == sides(data)[f"zz/{name}"] for name in PNGS)


# --- names -----------------------------------------------------------------------------------------------------------

SUFFIXES = {
    "-0": lambda text: text + "-0",
    "_1": lambda text: text + "_1",
    "_hash": lambda text: f"{text}_{zlib.crc32(text.encode()):08x}",
    "(1)": lambda text: text + "(1)",
    " (1)": lambda text: text + " (1)",
}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_suffix_is_proposed_and_goes_only_when_asked_for(
    tmp_path: Path, as_source: Source, suffix: str, every: int
) -> None:
    """Whether every file has it or every third."""
    truth = {f"{SUFFIXES[suffix](text) if i % every == 0 else text}.png": text for i, text in enumerate(TEXTS)}
    source = as_source(put(tmp_path / "in", truth))
    as_named = load(source)
    assert loaded(as_named) == by_stem(truth)
    proposal = findings(as_named)["suffixes"]
    assert proposal.level == "warning" and "'kmpt'" in proposal.says
    pattern = re.search(r"\(label_pattern=r'(.+)'\)", proposal.remedy)[1]
    assert f"CAPTCHA_LABEL_PATTERN='{pattern}'" in proposal.remedy
    cut = load(source, label_pattern=pattern)
    assert loaded(cut) == truth and not cut.audit.findings


@pytest.mark.parametrize("mark", "-.")
def test_labels_may_contain_a_hyphen_or_a_dot(tmp_path: Path, as_source: Source, mark: str) -> None:
    truth = {f"{text[:2]}{mark}{text[2:]}.png": f"{text[:2]}{mark}{text[2:]}" for text in TEXTS}
    data = load(as_source(put(tmp_path / "in", truth)))
    assert loaded(data) == truth and not data.audit.findings and mark in data.charset


def test_labels_with_a_hyphen_keep_it_when_a_suffix_goes(tmp_path: Path, as_source: Source) -> None:
    truth = {f"{text[:2]}-{text[2:]}-{i % 3}.png": f"{text[:2]}-{text[2:]}" for i, text in enumerate(TEXTS)}
    assert loaded(load(as_source(put(tmp_path / "in", truth)), label_pattern=r"(.+)-\d+")) == truth


def test_labels_that_look_as_if_they_had_a_suffix_stay_whole(tmp_path: Path, as_source: Source) -> None:
    names = [f"{text}-{10 + i}.png" for i, text in enumerate(TEXTS)]
    data = load(as_source(put(tmp_path / "in", names)))
    assert loaded(data) == by_stem(names) and "suffixes" in findings(data)


@pytest.mark.parametrize(
    ("name", "warning", "said", "refusing", "error"),
    [
        *(
            (
                f"kmp{mark}.png",
                "stray characters",
                f"has {mark!r} in 'kmp{mark}'",
                {"charset": "kmpt"},
                f"unexpected characters: texts have characters that the charset 'kmpt' does not hold: 1 file: kmp{mark}.png",
            )
            for mark in ("!", "7", "X", "-", ".")
        ),
        *(
            (
                f"{text}.png",
                "unexpected lengths",
                f"{len(text)} characters",
                {"recipe": "resnet18"},
                "the recipe resnet18 reads texts of one length, here 4 characters; this is not the length of: 1 file: "
                + f"{text}.png ({len(text)} characters)",
            )
            for text in ("kmptk", "kmp")
        ),
    ],
)
def test_a_stray_character_or_length_is_a_warning_or_an_error_with_a_charset_or_a_fixed_length(
    tmp_path: Path, as_source: Source, name: str, warning: str, said: str, refusing: dict[str, str], error: str
) -> None:
    source = as_source(put(tmp_path / "in", [*PNGS, name]))
    data = load(source)
    assert loaded(data) == by_stem([*PNGS, name])
    assert findings(data)[warning].level == "warning" and files(findings(data)[warning]) == {name: said}
    with pytest.raises(DataError, match=re.escape(error)) as caught:
        load(source, **refusing)
    assert "set on_bad='skip' (CAPTCHA_ON_BAD=skip) to go on without them" in str(caught.value)
    skipped = load(source, on_bad="skip", **refusing)
    assert loaded(skipped) == by_stem(PNGS) and [left_out for left_out, _ in skipped.bad] == [name]


def test_labels_that_differ_only_in_case(tmp_path: Path, as_source: Source) -> None:
    """In two folders, since some file systems hold only one of them in the same folder."""
    large = [f"{text.upper()}.png" for text in TEXTS]
    source = as_source(put(put(tmp_path / "in", PNGS, below="small"), large, below="large"))
    pairs = [(f"small/{a}", f"large/{b}") for a, b in zip(PNGS, large, strict=True)]
    names = [name for pair in pairs for name in pair]
    for seed in range(6):
        data = load(source, seed=seed)
        at = sides(data)
        assert loaded(data) == by_stem(names)
        assert all(at[small] == at[capitals] for small, capitals in pairs)
    assert files(findings(data)["case"]) == by_stem(names)
    assert findings(data)["both cases"].says.endswith(": kmpt")
    folded = load(source, case="lower")
    assert loaded(folded) == {name: Path(name).stem.lower() for name in names} and not folded.audit.findings


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("word", ["ö", "é", "验", "ё"])
def test_names_beyond_ascii(tmp_path: Path, as_source: Source, form: str, word: str) -> None:
    names = [unicodedata.normalize(form, word) + name for name in PNGS]
    data = load(as_source(put(tmp_path / "in", names)))
    assert loaded(data) == {name: word + text for name, text in zip(names, TEXTS, strict=True)}
    assert data.text_length == 5 and len(data.charset) == 5


@pytest.mark.parametrize(("form", "encoding"), [("NFC", "utf-8"), ("NFD", "utf-8"), ("NFC", "cp437")])
def test_names_beyond_ascii_in_a_zip_that_does_not_say_its_encoding(tmp_path: Path, form: str, encoding: str) -> None:
    """macOS writes UTF-8 without the flag that says so, old Windows tools write cp437."""
    names = [unicodedata.normalize(form, f"ö{name}") for name in PNGS]
    stored = {f"{i:0{len(name.encode(encoding))}}".encode(): name for i, name in enumerate(names)}  # as long in bytes
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for number, name in stored.items():
            file.writestr(number.decode(), content(name))
    packed = archive.read_bytes()
    for number, name in stored.items():
        assert packed.count(number) == 2  # beside the file and in the table of contents
        packed = packed.replace(number, name.encode(encoding))
    archive.write_bytes(packed)
    data = load(archive)
    assert loaded(data) == {name: f"ö{text}" for name, text in zip(names, TEXTS, strict=True)}
    with zipfile.ZipFile(archive) as file:
        assert not any(info.flag_bits & 0x800 for info in file.infolist())


# --- tables ----------------------------------------------------------------------------------------------------------


def test_numbers_as_names_are_no_texts_and_the_table_beside_them_is(tmp_path: Path, as_source: Source) -> None:
    truth = {f"{2000 + i}.png": text for i, text in enumerate(TEXTS)}
    folder = put(tmp_path / "in", truth)
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"{name},{text}\n" for name, text in truth.items()))
    source = as_source(folder)
    misread = load(source)
    assert "consecutive numbers (2000, 2001, 2002, ...)" in findings(misread)["running numbers"].says
    assert findings(misread)["tables and lists"].remedy.endswith("CAPTCHA_DATA=FOLDER/labels.csv")
    data = load(source / "labels.csv")
    assert loaded(data) == truth and not data.audit.findings


@pytest.mark.parametrize("name", ["labels.csv", "labels.txt"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [False, True])
def test_labels_in_natural_order(tmp_path: Path, as_source: Source, name: str, newline: str, last: bool) -> None:
    truth = {f"captcha{i}.png": text for i, text in enumerate(TEXTS, 1)}
    assert sorted(truth) != list(truth)  # in the order of characters `captcha10` comes first
    folder = put(tmp_path / "in", truth)
    lines = ["label"] * name.endswith("csv") + TEXTS
    (folder / name).write_bytes((newline.join(lines) + newline * last).encode())
    data = load(as_source(folder) / name)
    assert loaded(data) == truth and not data.audit.findings


def test_a_table_of_files_with_windows_line_ends_and_no_last_one(tmp_path: Path, as_source: Source) -> None:
    truth = {f"captcha{i}.png": text for i, text in enumerate(TEXTS, 1)}
    folder = put(tmp_path / "in", truth)
    lines = ["file,label", *(f"{name},{text}" for name, text in reversed(truth.items()))]
    (folder / "labels.csv").write_bytes("\r\n".join(lines).encode())
    data = load(as_source(folder) / "labels.csv")
    assert loaded(data) == truth and not data.audit.findings


def test_fewer_labels_than_pictures_are_refused(tmp_path: Path, as_source: Source) -> None:
    folder = put(tmp_path / "in", PNGS)
    (folder / "labels.csv").write_text("\n".join(["label", *TEXTS[1:]]))
    with pytest.raises(DataError, match=r"labels\.csv has 23 texts for 24 pictures in .*columns file,label"):
        load(as_source(folder) / "labels.csv")


# --- repetitions -----------------------------------------------------------------------------------------------------


def test_images_of_one_text_stand_on_one_side(tmp_path: Path, as_source: Source) -> None:
    names = [f"{text}-{i}.png" for text in TEXTS for i in range(3)]
    source, seen = as_source(put(tmp_path / "in", names)), set()
    for seed in range(12):
        data = load(source, seed=seed, label_pattern=r"(.+)-\d", val_share=0.2, test_share=0.2)
        at = sides(data)
        together = [{at[f"{text}-{i}.png"] for i in range(3)} for text in TEXTS]
        assert set(map(len, together)) == {1} and set(at.values()) == set(SPLITS)
        seen.add((at["kmpt-0.png"], at["mkpt-0.png"]))
    assert loaded(data) == {name: name[:4] for name in names}
    assert len(seen) > 2  # another seed, another split
    assert data.audit.repeated_texts == dict.fromkeys(sorted(TEXTS), 3)


def test_identical_files_of_one_text_are_named_and_stand_on_one_side(tmp_path: Path, as_source: Source) -> None:
    source = as_source(put(put(tmp_path / "in", PNGS, below="a"), PNGS[:3], below="b"))
    for seed in range(6):
        data = load(source, seed=seed)
        assert all(sides(data)[f"a/{name}"] == sides(data)[f"b/{name}"] for name in PNGS[:3])
    assert loaded(data) == by_stem([f"a/{name}" for name in PNGS] + [f"b/{name}" for name in PNGS[:3]])
    assert findings(data).keys() == {"identical files"}
    assert files(findings(data)["identical files"]) == {f"b/{name}": f"as a/{name}" for name in PNGS[:3]}


@pytest.mark.parametrize(("name", "format"), [("kkkk.png", "PNG"), ("kkkk.bmp", "BMP"), ("kkkk.tif", "TIFF")])
def test_one_picture_with_two_texts_is_an_error(tmp_path: Path, as_source: Source, name: str, format: str) -> None:
    """Byte for byte the same, or the same pixels in another format."""
    folder = put(tmp_path / "in", PNGS)
    (folder / name).write_bytes(content("kmpt.png", format))
    source = as_source(folder)
    with pytest.raises(DataError) as caught:
        load(source)
    said = str(caught.value)
    assert "identical pictures have different texts, at most one of which is right: 2 files" in said
    assert f"{name} (the same picture as kmpt.png), kmpt.png (the same picture as {name})" in said
    data = load(source, on_bad="skip")
    assert loaded(data) == by_stem(set(PNGS) - {"kmpt.png"})
    assert [left_out for left_out, _ in data.bad] == [name, "kmpt.png"]


# --- a hundred accidents ---------------------------------------------------------------------------------------------

ACCIDENTS = ("cut", "flipped", "zeroed", "renamed")
OTHER_SUFFIXES = ("", ".dat", ".txt", ".bmp", ".png", ".jpg", ".tiff")
BESIDE = {"unreadable", "misnamed", "not named like pictures"}


def accident(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """The content after something happened to it, which a file system would not notice."""
    changed = np.frombuffer(content, np.uint8).copy()
    if kind == "cut":
        changed = changed[: rng.integers(len(changed))]
    elif kind == "flipped":
        places = rng.choice(len(changed), rng.integers(1, 9), replace=False)
        changed[places] ^= rng.integers(1, 256, len(places), dtype=np.uint8)
    elif kind == "zeroed":
        start = rng.integers(len(changed))
        changed[start : start + rng.integers(16, 257)] = 0
    return changed.tobytes()


def test_of_a_hundred_damaged_files_none_slips_through(tmp_path: Path) -> None:
    """Each is named by the audit or shows what it showed before; JPEG alone, without a checksum, can deceive."""
    whole, kinds = {}, {}
    for number in range(100):
        rng = np.random.default_rng(number)
        kind, format = ACCIDENTS[number // 2 % 4], ("PNG", "JPEG")[number % 2]
        picture = Image.fromarray(rng.integers(200, 256, size=(24, 72, 3), dtype=np.uint8))
        ImageDraw.Draw(picture).text((8, 6), f"k{number:02d}m", fill="navy")
        before, suffix = encoded(picture, format), {"PNG": ".png", "JPEG": ".jpg"}[format]
        if kind == "renamed":
            suffix = rng.choice([other for other in OTHER_SUFFIXES if other != suffix])
        name = f"k{number:02d}m{suffix}"
        (tmp_path / name).write_bytes(accident(before, kind, rng))
        whole[name] = np.asarray(Image.open(io.BytesIO(before)).convert("RGB"))
        kinds[name] = (format, kind)

    found = collect(config(tmp_path, recipe="cnn_gru_ctc", image_size=(24, 72), aspect="squeeze"))
    assert str(found.audit) and found.audit.to_json()
    named = {name for finding in found.audit.findings if finding.about in BESIDE for name, _ in finding.files}
    readable = {
        sample.path.name: picture.image
        for sample, picture in zip(found.samples, found.pictures, strict=True)
        if not picture.problem
    }
    same = {name for name, image in readable.items() if np.array_equal(image, whole[name])}
    deceiving = Counter(kinds[name] for name in whole.keys() - named - same)
    assert deceiving.keys() <= {("JPEG", "flipped"), ("JPEG", "zeroed")}
    assert deceiving.total() <= 5
    assert not same & {name for name, (_, kind) in kinds.items() if kind == "cut"}
    renamed = {name for name, (_, kind) in kinds.items() if kind == "renamed"}
    assert renamed <= named and renamed & readable.keys() <= same
    assert Counter(kinds.values()).keys() == {(format, kind) for format in ("PNG", "JPEG") for kind in ACCIDENTS}
