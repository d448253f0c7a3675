"""Captchas on disk to batches: each text stays with its picture, no text or picture stands on two sides, each file is named."""

import csv
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helpers.config import Config
from helpers.data import (
    SPLITS,
    CaptchaData,
    CaptchaDataset,
    Sample,
    find_samples,
    load_data,
    split,
)
from helpers.pictures import DataError, open_picture, sample_text
from helpers.recipes import get_recipe

PNG = "89504E470D0A1A0A"


@pytest.fixture(autouse=True)
def full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTCHA_TINY")  # which would decide about loader processes and batch size


def write(path: Path, gray: int = 128) -> Path:
    """A picture of one gray value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (12, 8), gray).save(path)
    return path


def write_all(folder: Path, grays: Iterable[int]) -> Path:
    """Pictures whose text is their gray value: `0007.png` is all 7."""
    for gray in grays:
        write(folder / f"{gray:04d}.png", gray)
    return folder


def pack(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))  # folders too, as most tools do
    return archive


def table(folder: Path, rows: Iterable[tuple[str, str]], name: str = "labels.csv") -> Path:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *rows])
    return folder / name


def config(data: Path, **settings: object) -> Config:
    return Config(**{"data": data, "recipe": "resnet18", "image_size": (32, 64), "augment": False} | settings)


def texts(samples: Iterable[Sample]) -> list[str]:
    return [sample.text for sample in samples]


def sides_of(data: CaptchaData) -> dict[str, list[str]]:
    return {side: data.sides[side].texts for side in SPLITS}


def misplaced(dataset: CaptchaDataset) -> list[str]:
    """The texts of `write_all` whose tensor is not of their gray value."""
    return [text for image, text in dataset if not torch.allclose(image, torch.tensor((int(text) / 255 - 0.5) / 0.5))]


# --- found -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "zip"])
def as_source(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Path]:
    """A folder as it is, or the zip of it."""
    return lambda folder: folder if request.param == "folder" else pack(folder, tmp_path / "packed.zip")


@pytest.mark.parametrize("below", ["", "captchas", "captchas/captchas", "a/b/c/d"])
def test_pictures_are_found_at_any_depth(tmp_path: Path, as_source: Callable[[Path], Path], below: str) -> None:
    write(tmp_path / "in" / below / "B2.png", 20)
    write(tmp_path / "in" / below / "A1.JPG", 10)
    source = as_source(tmp_path / "in")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = find_samples(source)
    assert texts(samples) == ["A1", "B2"] and all(source in sample.path.parents for sample in samples)
    assert [open_picture(sample.path).getpixel((0, 0)) for sample in samples] == [10, 20]


def test_what_is_no_picture_is_named_in_a_warning(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    write(tmp_path / "in" / "A1.png")
    for name in ("Thumbs.db", "notes.txt"):
        (tmp_path / "in" / name).write_text("no picture")
    with pytest.warns(UserWarning, match="holds 2 files: Thumbs.db, notes.txt that are no pictures"):
        assert texts(find_samples(as_source(tmp_path / "in"))) == ["A1"]


def test_what_macos_adds_is_passed_over(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    write(tmp_path / "in" / "A1.png")
    for name in ("._A1.png", "__MACOSX/A1.png", "__MACOSX/deep/._A1.png", ".DS_Store"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("no picture")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert texts(find_samples(as_source(tmp_path / "in"))) == ["A1"]


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
        ("größe", None, "größe"),
        ("验证码-0", r"(.+)-\d+", "验证码"),
    ],
)
def test_names_give_texts(
    tmp_path: Path, as_source: Callable[[Path], Path], stem: str, pattern: str | None, text: str
) -> None:
    assert sample_text(Path("x") / f"{stem}.png", pattern) == text
    write(tmp_path / "in" / f"{stem}.png", 77)
    (sample,) = find_samples(as_source(tmp_path / "in"), pattern)
    assert sample.text == text and open_picture(sample.path).getpixel((0, 0)) == 77


@pytest.mark.parametrize("pattern", [r"(\w+)-\d", r"(AB)", r"(x)?.+"])
def test_names_that_do_not_match_are_an_error(tmp_path: Path, pattern: str) -> None:
    write(tmp_path / "AB-12.png")
    with pytest.raises(DataError, match=r"no text in 1 file: AB-12\.png of .* must match the stem"):
        find_samples(tmp_path, pattern)


def test_a_pattern_without_a_group_is_an_error_that_says_so(tmp_path: Path) -> None:
    write(tmp_path / "AB-1.png")
    with pytest.raises(ValueError, match="label_pattern.*group"):
        find_samples(tmp_path, r".+-\d+")


def test_missing_and_empty_sources_are_named(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    with pytest.raises(DataError, match="nowhere does not exist: name a folder, a zip or a csv"):
        find_samples(tmp_path / "nowhere")
    (tmp_path / "in" / "empty").mkdir(parents=True)
    source = as_source(tmp_path / "in")
    with pytest.raises(DataError, match=f"{source.name} holds no pictures .*png"):
        find_samples(source)
    (tmp_path / "a.txt").write_text("no zip")
    with pytest.raises(DataError, match="a.txt is neither a folder nor a zip nor a csv"):
        find_samples(tmp_path / "a.txt")


def test_a_zip_made_anew_is_read_anew(tmp_path: Path) -> None:
    for gray in (1, 2):
        (path,) = (
            sample.path for sample in find_samples(pack(write_all(tmp_path / str(gray), [gray]), tmp_path / "x.zip"))
        )
        assert (path.name, open_picture(path).getpixel((0, 0))) == (f"000{gray}.png", gray)


# --- csv -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [False, True])
def test_csv(tmp_path: Path, encoding: str, newline: str, last: bool) -> None:
    lines = ["file,label", "one.png,größe", 'deep/two.png,"a,b"', "one.png,00"]  # a zero in front is no number
    source = tmp_path / "labels.csv"
    source.write_bytes((newline.join(lines) + newline * last).encode(encoding))
    expected = [("one.png", "größe"), ("deep/two.png", "a,b"), ("one.png", "00")]
    assert find_samples(source) == [Sample(tmp_path / name, text) for name, text in expected]


def test_csv_columns_may_stand_anywhere(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,label,file\n1,AB,a.png\n")
    assert find_samples(tmp_path / "x.csv") == [Sample(tmp_path / "a.png", "AB")]


@pytest.mark.parametrize("content", ["", "a.png,AB\n", "file;label\na.png;AB\n", "filename,text\na.png,AB\n"])
def test_csv_with_other_columns_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(DataError, match="x.csv has the columns .*`file,label` is expected"):
        find_samples(tmp_path / "x.csv")


@pytest.mark.parametrize("row", ["b.png,", "b.png"])
def test_csv_without_a_label_is_an_error(tmp_path: Path, row: str) -> None:
    (tmp_path / "x.csv").write_text(f"file,label\na.png,AB\n{row}\n")
    with pytest.raises(DataError, match="x.csv gives no label for 1 file: b.png"):
        find_samples(tmp_path / "x.csv")


def test_csv_without_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("file,label\n")
    with pytest.raises(DataError, match="x.csv"):
        find_samples(tmp_path / "x.csv")


def test_csv_is_loaded_with_its_own_texts(tmp_path: Path) -> None:
    write_all(tmp_path / "deep", range(40))
    rows = [(f"deep/{gray:04d}.png", f"{gray:04d}") for gray in range(30)]  # ten pictures are not in the table
    data = load_data(config(table(tmp_path, rows)))
    assert sorted(sum(sides_of(data).values(), [])) == [f"{gray:04d}" for gray in range(30)]
    assert not any(misplaced(dataset) for dataset in data.sides.values())
    assert {name for name, _, _ in data.split_rows()} == {name for name, _ in rows}


# --- pictures that cannot be read ------------------------------------------------------------------------------------


def damaged(folder: Path) -> set[str]:
    """Writes pictures that cannot be read between readable ones; their names."""
    rng = np.random.default_rng(0)
    whole = write(folder / "whole.png")
    Image.fromarray(rng.integers(256, size=(40, 60), dtype=np.uint8)).save(whole)
    content = whole.read_bytes()
    whole.unlink()
    bad = {
        "0000.png": b"",
        "0005.png": content[: len(content) // 2],
        "0010.png": b"no picture at all",
        "0015.jpg": content[:20],
        "0500.png": bytes.fromhex(PNG),
    }
    for name, part in bad.items():
        (folder / name).write_bytes(part)
    return set(bad)


def test_opening_a_picture_reads_it_whole(tmp_path: Path) -> None:
    for name in damaged(tmp_path):
        with pytest.raises(OSError):
            open_picture(tmp_path / name)


def test_pictures_that_cannot_be_read_are_named_and_counted(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    write_all(tmp_path / "in", range(20, 60))
    first = damaged(tmp_path / "in")
    (tmp_path / "in" / "0600.png").touch()
    with pytest.raises(DataError, match=r"cannot read 6 files: .*, \.\.\.\. .*on_bad='skip'") as caught:
        load_data(config(as_source(tmp_path / "in")))
    assert all(name in str(caught.value) for name in first) and "0600.png" not in str(caught.value)


def test_skipped_pictures_are_recorded_and_the_others_keep_their_texts(
    tmp_path: Path, as_source: Callable[[Path], Path]
) -> None:
    write_all(tmp_path / "in", [gray for gray in range(60) if gray not in (0, 5, 10, 15)])
    bad = damaged(tmp_path / "in")
    data = load_data(config(as_source(tmp_path / "in"), on_bad="skip"))
    assert {name for name, _ in data.bad} == bad and all(reason for _, reason in data.bad)
    assert sum(map(len, data.sides.values())) == 56
    assert not any(misplaced(dataset) for dataset in data.sides.values())
    assert "left out: 5 files: 0000.png" in str(data)


def test_a_damaged_zip_member_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_all(folder, range(40))
    noise = np.random.default_rng(0).integers(4, size=(64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "0100.bmp")  # compressible, so that the zip deflates it
    archive = pack(folder, tmp_path / "x.zip")
    with zipfile.ZipFile(archive) as file:
        start = file.getinfo("0100.bmp").header_offset + 30 + len("0100.bmp")
    content = bytearray(archive.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    archive.write_bytes(content)
    with pytest.raises(DataError, match="cannot read 1 file: 0100.bmp"):
        load_data(config(archive))


def test_nothing_that_can_be_read_is_an_error(tmp_path: Path) -> None:
    damaged(tmp_path)
    with pytest.raises(DataError, match="holds no picture that can be read"):
        load_data(config(tmp_path, on_bad="skip"))


def test_a_missing_file_of_a_csv_is_named(tmp_path: Path) -> None:
    write_all(tmp_path, range(30))
    rows = [(f"{gray:04d}.png", f"{gray:04d}") for gray in range(31)]
    with pytest.raises(DataError, match="cannot read 1 file: 0030.png .FileNotFoundError"):
        load_data(config(table(tmp_path, rows)))


# --- split -----------------------------------------------------------------------------------------------------------


def made_up(seed: int, count: int = 60, different: int = 25) -> tuple[list[Sample], np.ndarray]:
    """Samples in which texts and images occur more than once, independently, so that they chain."""
    rng = np.random.default_rng(seed)
    samples = [Sample(Path(f"{i}.png"), f"t{rng.integers(3 * different)}") for i in range(count)]
    return samples, rng.integers(3 * different, size=(count, 1, 1, 1)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(30))
def test_no_text_and_no_image_on_two_sides(seed: int) -> None:
    samples, images = made_up(seed)
    sides = split(samples, images, seed)
    assert set(sides) == set(SPLITS)
    tied = [
        (i, j) for i, j in combinations(range(60), 2) if samples[i].text == samples[j].text or images[i] == images[j]
    ]
    assert len(tied) > 20
    assert [(i, j) for i, j in tied if sides[i] != sides[j]] == []


def test_chains_of_texts_and_images_stay_together() -> None:
    """A~B by text, B~C by image, C~D by text: A and D share nothing, and yet belong together."""
    chain, rest = ["A", "A", "C", "C"], [f"x{i}" for i in range(10)]
    samples = [Sample(Path(f"{i}.png"), text) for i, text in enumerate(chain + rest)]
    images = np.array([1, 2, 2, 3, *range(4, 14)], np.uint8).reshape(-1, 1, 1, 1)
    assert {len(set(split(samples, images, seed)[:4])) for seed in range(50)} == {1}
    assert len({split(samples, images, seed)[0] for seed in range(50)}) == 3  # on any side, though


@pytest.mark.parametrize(
    ("count", "val_share", "test_share", "sizes"),
    [
        (100, 0.1, 0.1, (80, 10, 10)),
        (100, 0.2, 0.05, (75, 20, 5)),
        (20, 0.01, 0.01, (18, 1, 1)),
        (3, 0.1, 0.1, (1, 1, 1)),
    ],
)
def test_sizes(count: int, val_share: float, test_share: float, sizes: tuple[int, int, int]) -> None:
    samples = [Sample(Path(f"{i}.png"), f"{i}") for i in range(count)]
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    sides = split(samples, images, 0, val_share, test_share)
    assert tuple(sides.count(side) for side in SPLITS) == sizes


def test_split_follows_the_seed_and_not_the_order_of_files() -> None:
    samples, images = made_up(0)
    for seed in range(20):
        sides = split(samples, images, seed)
        order = np.random.default_rng(seed).permutation(len(samples))
        assert split([samples[i] for i in order], images[order], seed) == [sides[i] for i in order]
        assert split(samples, images, seed) == sides != split(samples, images, seed + 1)


@pytest.mark.parametrize("names", [["a", "b"], ["a"] * 30, ["a", "b"] * 10])
def test_too_few_captchas_to_split(names: list[str]) -> None:
    samples = [Sample(Path(f"{i}.png"), name) for i, name in enumerate(names)]
    images = np.arange(len(names), dtype=np.uint8).reshape(-1, 1, 1, 1)
    with pytest.raises(DataError, match=f"{len(set(names))} different captchas are too few to split"):
        split(samples, images, 0)


@pytest.mark.parametrize("recipe", ["resnet18", "cnn_gru_ctc"])
def test_every_text_still_belongs_to_its_picture(tmp_path: Path, recipe: str) -> None:
    write_all(tmp_path, range(0, 250, 5))
    data = load_data(config(tmp_path, recipe=recipe))
    assert sorted(sum(sides_of(data).values(), [])) == [f"{gray:04d}" for gray in range(0, 250, 5)]
    for dataset in data.sides.values():
        for image, text in dataset:
            levels = image * torch.tensor(get_recipe(Config(recipe=recipe)).std).view(-1, 1, 1)
            levels = 255 * (levels + torch.tensor(get_recipe(Config(recipe=recipe)).mean).view(-1, 1, 1))
            assert (levels - int(text)).abs().max() < 0.1
    if recipe == "resnet18":  # the test's own test: two labels that change places are found
        first, second, *rest = data.train.samples
        data.train.samples = [Sample(first.path, second.text), Sample(second.path, first.text), *rest]
        assert misplaced(data.train) == [second.text, first.text]


def test_load_data_keeps_its_split_for_a_seed(tmp_path: Path) -> None:
    write_all(tmp_path, range(50))
    first, again, other = (load_data(config(tmp_path, seed=seed)) for seed in (1, 1, 2))
    assert sides_of(first) == sides_of(again) != sides_of(other)
    assert tuple(len(first.sides[side]) for side in SPLITS) == (40, 5, 5)


# --- the folder's own split ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "validation", "TEST"), ("data/train", "data/valid", "data/test/x")]
)
def test_own_split_is_used(tmp_path: Path, as_source: Callable[[Path], Path], names: tuple[str, str, str]) -> None:
    expected = {"train": range(0, 10), "val": range(10, 30), "test": range(30, 33)}
    for name, grays in zip(names, expected.values(), strict=True):
        write_all(tmp_path / "in" / name, grays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_data(config(as_source(tmp_path / "in")))
    assert sides_of(data) == {side: [f"{gray:04d}" for gray in grays] for side, grays in expected.items()}
    assert not any(misplaced(dataset) for dataset in data.sides.values())
    assert [name for name, _, _ in data.split_rows()][:1] == [f"{names[0]}/0000.png"]


def test_a_missing_test_side_is_cut_from_the_training_side(tmp_path: Path) -> None:
    write_all(tmp_path / "train", range(100))
    write_all(tmp_path / "val", range(100, 120))
    sides = sides_of(load_data(config(tmp_path, test_share=0.2)))
    assert sides["val"] == [f"{gray:04d}" for gray in range(100, 120)]
    assert (len(sides["train"]), len(sides["test"])) == (80, 20)
    assert sorted(sides["train"] + sides["test"]) == [f"{gray:04d}" for gray in range(100)]
    assert sides_of(load_data(config(tmp_path, test_share=0.2, seed=1)))["test"] != sides["test"]


@pytest.mark.parametrize("shared", ["text", "image"])
def test_an_own_split_with_a_captcha_on_two_sides_is_told(tmp_path: Path, shared: str) -> None:
    for index, side in enumerate(SPLITS):
        write_all(tmp_path / side, range(10 * index, 10 * index + 5))
    write(tmp_path / "test" / ("0000.png" if shared == "text" else "0200.png"), 200 if shared == "text" else 0)
    with pytest.warns(UserWarning, match=r"1 texts or images on two sides \(such as \['0000'\]\)"):
        data = load_data(config(tmp_path))
    assert len(data.test) == 6  # told, and left as it is


def test_folders_that_are_no_split_are_none(tmp_path: Path) -> None:
    write_all(tmp_path / "train", range(30))
    write_all(tmp_path / "more", range(30, 60))
    sides = sides_of(load_data(config(tmp_path)))
    assert [len(sides[side]) for side in SPLITS] == [48, 6, 6]


# --- loaders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recipe", "channels"), [("resnet18", 1), ("cnn_gru_ctc", 3)])
@pytest.mark.parametrize("augment", [False, True])
def test_batches(tmp_path: Path, recipe: str, channels: int, augment: bool) -> None:
    write_all(tmp_path, range(50))
    data = load_data(config(tmp_path, recipe=recipe, augment=augment, batch_size=16))
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        images, labels = next(iter(loader))
        assert images.dtype == torch.float32 and images.shape == (len(labels), channels, 32, 64)
        assert type(labels) is list and all(type(label) is str for label in labels)


def epoch(loader: DataLoader) -> list[str]:
    """The texts of one pass, each checked against its picture."""
    seen = []
    for images, labels in loader:
        grays = (255 * (images.mean((1, 2, 3)) * 0.5 + 0.5)).round().int().tolist()
        assert labels == [f"{gray:04d}" for gray in grays]
        seen += labels
    return seen


@pytest.mark.parametrize(("batch_size", "seen"), [(16, 32), (10, 40), (64, 40)])
def test_a_training_epoch_covers_all_but_a_dropped_last_batch(tmp_path: Path, batch_size: int, seen: int) -> None:
    write_all(tmp_path, range(50))
    data = load_data(config(tmp_path, batch_size=batch_size))
    loader = data.train_dataloader()
    first, second = epoch(loader), epoch(loader)
    for labels in (first, second):
        assert len(labels) == len(set(labels)) == seen == batch_size * len(loader) or batch_size > 40
        assert set(labels) <= set(data.train.texts)
    assert first != second and first != data.train.texts  # shuffled, anew in each epoch
    assert epoch(data.train_dataloader()) == first  # and seeded
    assert epoch(data.val_dataloader()) == data.val.texts and epoch(data.test_dataloader()) == data.test.texts


def test_only_the_training_side_is_augmented(tmp_path: Path) -> None:
    write_all(tmp_path, range(100, 150))
    data = load_data(config(tmp_path, augment=True))
    assert misplaced(data.train) and not misplaced(data.val) and not misplaced(data.test)


@pytest.mark.skipif(sys.platform != "linux", reason="loader processes are used where they can be forked")
def test_loader_processes_do_not_repeat_each_other(tmp_path: Path) -> None:
    """One picture in two batches by two processes in two epochs: no augmentation occurs twice."""
    settings = config(tmp_path, augment=True, workers=2, batch_size=8)
    picture = np.random.default_rng(0).integers(256, size=(32, 64, 1), dtype=np.uint8)
    samples = [Sample(Path(f"{i}.png"), f"{i:04d}") for i in range(18)]
    sides = ["train"] * 16 + ["val", "test"]
    data = CaptchaData(samples, np.stack([picture] * 18), sides, settings, get_recipe(settings))
    loader = data.train_dataloader()
    assert loader.num_workers == 2
    images = torch.cat([batch for _ in range(2) for batch, _ in loader])
    plain = data.val[0][0]
    changed = [image for image in images if not torch.equal(image, plain)]  # a few are left as they are
    assert len(images) == 32 and len(changed) > 20
    assert not any(torch.equal(a, b) for a, b in combinations(changed, 2))


# --- what a data set says of itself ----------------------------------------------------------------------------------


def test_charset_and_text_length_are_of_the_training_texts(tmp_path: Path) -> None:
    for index, (side, names) in enumerate({"train": ["baab", "bcb1", "caa"], "val": ["zzzzz"], "test": ["yy"]}.items()):
        for number, name in enumerate(names):
            write(tmp_path / side / f"{name}.png", 50 * index + number)
    data = load_data(config(tmp_path))
    assert (data.charset, data.text_length) == ("1abc", 4)
    assert load_data(config(tmp_path, charset="xyzabc1")).charset == "xyzabc1"


def test_split_rows_are_relative_to_the_source(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    source = as_source(write_all(tmp_path / "in" / "deep", range(50)).parent)
    data = load_data(config(source))
    rows = data.split_rows()
    assert sorted(name for name, _, _ in rows) == [f"deep/{gray:04d}.png" for gray in range(50)]
    assert all(Path(name).stem == text for name, text, _ in rows)
    assert {side: [text for _, text, at in rows if at == side] for side in SPLITS} == sides_of(data)


def test_split_rows_of_a_csv_that_names_files_elsewhere(tmp_path: Path) -> None:
    write_all(tmp_path / "pictures", range(30))
    (tmp_path / "tables").mkdir()
    rows = [(str(tmp_path / "pictures" / f"{gray:04d}.png"), f"{gray:04d}") for gray in range(30)]
    data = load_data(config(table(tmp_path / "tables", rows)))
    assert sorted(Path(name).name for name, _, _ in data.split_rows()) == [f"{gray:04d}.png" for gray in range(30)]


def test_a_data_set_prints_what_it_holds(tmp_path: Path) -> None:
    write_all(tmp_path, range(50))
    said = str(load_data(config(tmp_path)))
    assert "40 train, 5 val, 5 test" in said and "(32, 64, 1)" in said and "0123456789" in said


def test_the_default_data_set_is_loaded_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_data(Config(recipe="resnet18", synthetic_count=12))
    assert sum(map(len, data.sides.values())) == 12 and data.text_length == 4
    assert tmp_path in data.source.parents
