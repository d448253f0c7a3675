"""Captchas to batches: each text stays with its picture, no text stands on two sides, each file is named."""

import hashlib
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import albumentations as A
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helpers.config import Config
from helpers.data import collection
from helpers.data.collection import collect
from helpers.data.dataset import Batches, CaptchaDataset, WidthBatches
from helpers.data.module import CaptchaData, load_data
from helpers.data.splits import split
from helpers.data.transforms import train_transform
from helpers.models.recipes import RECIPES, get_recipe
from helpers.pictures import decoding
from helpers.pictures.opening import DataError
from helpers.pictures.view import WIDTH_STEP
from helpers.plots.readings import contact_sheet
from helpers.sources.names import SPLITS, Sample
from helpers.synthetic.captchas import Synthetic
from helpers.synthetic.folder import make_captchas
from tests.captchas import encoded, noise, pack, table, write, write_all


@pytest.fixture(autouse=True)
def full_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not tiny, which would decide about loader processes and batch size; the output in a folder beside the data."""
    monkeypatch.delenv("CAPTCHA_TINY")
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "work"))


@pytest.fixture(params=["folder", "zip"])
def as_source(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Path]:
    """A folder as it is, or the zip of it."""
    return lambda folder: folder if request.param == "folder" else pack(folder, tmp_path / "packed.zip")


def config(data: Path | str, **settings: object) -> Config:
    return Config(**{"data": data, "recipe": "resnet18", "image_size": (32, 64), "augment": False} | settings)


def ctc(data: Path | str, **settings: object) -> Config:
    return config(data, **{"recipe": "conv_ctc", "image_size": (32, 128)} | settings)


def sides_of(data: CaptchaData) -> dict[str, list[str]]:
    return {side: data.sides[side].texts for side in SPLITS}


def all_texts(data: CaptchaData) -> list[str]:
    return sorted(sum(sides_of(data).values(), []))


def named(grays: Iterable[int]) -> list[str]:
    """The texts of `write_all`."""
    return [f"{gray:04d}" for gray in grays]


def misplaced(dataset: CaptchaDataset) -> list[str]:
    """The texts of `write_all` whose tensor is not of their gray value."""
    return [text for image, text in dataset if not torch.allclose(image, torch.tensor((int(text) / 255 - 0.5) / 0.5))]


def epoch(loader: DataLoader) -> list[str]:
    """The texts of one pass, each checked against its picture."""
    seen = []
    for images, labels in loader:
        grays = (255 * (images.mean((1, 2, 3)) * 0.5 + 0.5)).round().int().tolist()
        assert labels == named(grays)
        seen += labels
    return seen


# --- loaded ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["resnet18", "cnn_gru_ctc", "conv_ctc"])
def test_every_text_still_belongs_to_its_picture(
    tmp_path: Path, as_source: Callable[[Path], Path], recipe: str
) -> None:
    grays = range(0, 250, 5)
    data = load_data(config(as_source(write_all(tmp_path / "in", grays)), recipe=recipe))
    assert all_texts(data) == named(grays)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (RECIPES[recipe].mean, RECIPES[recipe].std))
    for dataset in data.sides.values():
        for image, text in dataset:
            assert image.shape == (len(mean), 32, 64)
            assert (255 * (image * std + mean) - int(text)).abs().max() < 0.1
    if recipe == "resnet18":  # the test's own test: two labels that change places are found
        first, second, *rest = data.train.samples
        data.train.samples = [Sample(first.path, second.text), Sample(second.path, first.text), *rest]
        assert misplaced(data.train) == [second.text, first.text]


def test_the_split_is_that_of_the_texts_and_the_seed(tmp_path: Path) -> None:
    write_all(tmp_path / "in", range(60))
    for seed in (1, 2):
        sides = split(named(range(60)), seed, 0.2, 0.3)
        data = load_data(config(tmp_path / "in", seed=seed, val_share=0.2, test_share=0.3))
        assert sides_of(data) == {
            side: [text for text, at in zip(named(range(60)), sides, strict=True) if at == side] for side in SPLITS
        }


@pytest.mark.parametrize("augment", [False, True])
def test_a_seed_gives_the_same_split_and_the_same_batches(tmp_path: Path, augment: bool) -> None:
    for gray in range(60):
        path = tmp_path / "in" / f"{gray:04d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(noise((64, 32), gray).convert("L")))
    first, again, other = (
        load_data(config(tmp_path / "in", seed=seed, augment=augment, batch_size=8)) for seed in (1, 1, 2)
    )
    assert sides_of(first) == sides_of(again) != sides_of(other)
    batches = [[*data.train_dataloader()][:3] for data in (first, again)]
    for (images, labels), (images_again, labels_again) in zip(*batches, strict=True):
        assert labels == labels_again and torch.equal(images, images_again)


def test_the_seed_decides_about_the_order_of_the_training(tmp_path: Path) -> None:
    for index, side in enumerate(SPLITS):
        write_all(tmp_path / "in" / side, range(50 * index, 50 * index + 40))
    orders = [epoch(load_data(config(tmp_path / "in", seed=seed)).train_dataloader()) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_a_table_is_loaded_with_its_own_texts(tmp_path: Path) -> None:
    write_all(tmp_path / "in" / "deep", range(40))
    rows = [(f"deep/{gray:04d}.png", f"{gray:04d}") for gray in range(30)]  # ten pictures are not in the table
    data = load_data(config(table(tmp_path / "in" / "labels.csv", rows)))
    assert all_texts(data) == named(range(30))
    assert not any(misplaced(dataset) for dataset in data.sides.values())
    assert {row[0] for row in data.split_rows()} == {name for name, _ in rows}
    assert [finding.about for finding in data.audit.warnings if finding.files] == ["not in the table"]


def test_settings_of_the_source_are_passed_on(tmp_path: Path) -> None:
    for gray in range(30):
        write(tmp_path / "in" / f"a{gray:03d}-0.png", gray)
    data = load_data(config(tmp_path / "in", label_pattern=r"(.+)-\d", case="upper"))
    assert all_texts(data) == [f"A{gray:03d}" for gray in range(30)]
    rows = [(f"a{gray:03d}-0.png", "x", f"b{gray:03d}") for gray in range(30)]
    source = table(tmp_path / "in" / "labels.csv", rows, ("which", "label", "says"))
    data = load_data(config(source, file_column="which", label_column="says"))
    assert all_texts(data) == [f"b{gray:03d}" for gray in range(30)]


def test_folds_test_every_captcha_once(tmp_path: Path) -> None:
    write_all(tmp_path / "in", range(80))
    folds = [load_data(config(tmp_path / "in", folds=4, fold=fold)) for fold in range(4)]
    for data in folds:
        assert all_texts(data) == named(range(80)) and all(len(data.sides[side]) for side in SPLITS)
    assert sorted(text for data in folds for text in data.test.texts) == named(range(80))


# --- sides that the source gives -------------------------------------------------------------------------------------


def test_own_sides_are_used(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    expected = {"train": range(0, 10), "val": range(10, 30), "test": range(30, 33)}
    for name, grays in zip(("Training", "valid", "test/x"), expected.values(), strict=True):
        write_all(tmp_path / "in" / "data" / name, grays)
    data = load_data(config(as_source(tmp_path / "in")))
    assert sides_of(data) == {side: named(grays) for side, grays in expected.items()}
    assert not any(misplaced(dataset) for dataset in data.sides.values())
    assert data.split_rows()[0][:3] == ("data/Training/0000.png", "0000", "train") and data.shared == []


def test_a_missing_test_side_is_cut_from_the_training_side(tmp_path: Path) -> None:
    write_all(tmp_path / "in" / "train", range(100))
    write_all(tmp_path / "in" / "val", range(100, 120))
    sides, other = (sides_of(load_data(config(tmp_path / "in", test_share=0.2, seed=seed))) for seed in (0, 1))
    assert sides["val"] == other["val"] == named(range(100, 120)) and sides["test"] != other["test"]
    assert sorted(sides["train"] + sides["test"]) == named(range(100)) and 5 < len(sides["test"]) < 40


def test_an_own_split_with_a_text_on_two_sides_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    for index, side in enumerate(SPLITS):
        write_all(tmp_path / "in" / side, range(10 * index, 10 * index + 5))
    write(tmp_path / "in" / "test" / "0000.png", 200)
    data = load_data(config(tmp_path / "in"))
    assert data.shared == ["0000"] and len(data.test) == 6
    assert "WARNING: the source's own split has 1 texts on two sides, such as '0000'" in str(data)


# --- what cannot be used ---------------------------------------------------------------------------------------------


def unreadable(folder: Path) -> None:
    for name in ("0003.png", "0007.png", "0100.png"):
        write(folder / name).write_bytes(b"" if name == "0007.png" else b"no picture")


def same_picture_two_texts(folder: Path) -> None:
    write(folder / "0040.png", 20)
    write(folder / "0041.png", 20)
    (folder / "0042.png").write_bytes(encoded(Image.open(folder / "0021.png").convert("RGB"), "bmp"))


def unexpected_characters(folder: Path) -> None:
    write(folder / "00x1.png", 100)
    write(folder / "0-0y.png", 101)


def unexpected_lengths(folder: Path) -> None:
    write(folder / "12345.png", 100)
    write(folder / "1.png", 101)


def shapes(folder: Path) -> None:
    write(folder / "0100.png", 100, (24, 8))
    write(folder / "0101.png", 101, (12, 24))


def too_long(folder: Path) -> None:
    write(folder / f"{'0123456789' * 4}.png", 100)
    write(folder / f"{'1' * 17}.png", 101)  # 17 ones and 16 blanks between them, of 32 steps


@pytest.mark.parametrize(
    ("spoil", "about", "names", "settings"),
    [
        (unreadable, "unreadable", ["0003.png", "0007.png", "0100.png"], {}),
        (same_picture_two_texts, "same picture, two texts", [f"00{n}.png" for n in (20, 21, 40, 41, 42)], {}),
        (unexpected_characters, "unexpected characters", ["0-0y.png", "00x1.png"], {"charset": "0123456789"}),
        (
            unexpected_lengths,
            "unexpected lengths",
            ["1.png", "12345.png"],
            {"recipe": "resnet18", "image_size": (32, 64)},
        ),
        (shapes, "shapes", ["0100.png", "0101.png"], {"recipe": "resnet18", "image_size": (32, 64)}),
        (too_long, "too long", [f"{'0123456789' * 4}.png", f"{'1' * 17}.png"], {}),
    ],
)
def test_what_cannot_be_used_is_an_error_by_name_or_skipped(
    tmp_path: Path,
    as_source: Callable[[Path], Path],
    spoil: Callable[[Path], None],
    about: str,
    names: list[str],
    settings: dict,
) -> None:
    spoil(write_all(tmp_path / "in", range(40)))
    source = as_source(tmp_path / "in")
    with pytest.raises(DataError, match=f"^{about}: ") as caught:
        load_data(ctc(source, **settings))
    assert all(name in str(caught.value) for name in names) and f"{len(names)} files: " in str(caught.value)
    data = load_data(ctc(source, on_bad="skip", **settings))
    assert sorted(name for name, _ in data.bad) == names
    assert all(reason.startswith(f"{about}: ") and len(reason) > len(about) + 2 for _, reason in data.bad)
    left = {path.name for path in (tmp_path / "in").iterdir()} - {*names}
    assert all_texts(data) == sorted(name.removesuffix(".png") for name in left) and len(left) > 30
    assert not any(misplaced(dataset) for dataset in data.sides.values())
    assert f"left out: {len(names)} files: {data.bad[0][0]} ({about}: " in str(data)


def test_only_the_first_of_many_bad_files_are_named(tmp_path: Path) -> None:
    write_all(tmp_path / "in", range(20, 60))
    for gray in range(100, 107):
        (tmp_path / "in" / f"{gray:04d}.png").write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"unreadable: cannot read: 7 files: 0100.png .*, \.\.\.\n.*on_bad='skip'"
    ) as caught:
        load_data(config(tmp_path / "in"))
    assert "0104.png" in str(caught.value) and "0105.png" not in str(caught.value)


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    write_all(tmp_path / "in", range(40))
    unreadable(tmp_path / "in")
    unexpected_lengths(tmp_path / "in")
    with pytest.raises(DataError) as caught:
        load_data(config(tmp_path / "in"))
    assert "unreadable: " in str(caught.value) and "unexpected lengths: " in str(caught.value)
    assert len(load_data(config(tmp_path / "in", on_bad="skip")).bad) == 5


def test_nothing_that_can_be_used_is_an_error(tmp_path: Path) -> None:
    for name in ("0001.png", "0002.png"):
        write(tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match="holds no captcha that can be used: 2 files: "):
        load_data(config(tmp_path, on_bad="skip"))


def test_a_missing_file_of_a_table_is_named(tmp_path: Path) -> None:
    write_all(tmp_path, range(30))
    rows = [(f"{gray:04d}.png", f"{gray:04d}") for gray in range(31)]
    with pytest.raises(DataError, match="cannot read: 1 file: 0030.png .FileNotFoundError"):
        load_data(config(table(tmp_path / "labels.csv", rows)))


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["cnn_gru_ctc", "conv_ctc"])
def test_mixed_widths_keep_their_aspect_with_a_ctc_recipe(tmp_path: Path, recipe: str) -> None:
    write_all(tmp_path / "in", range(60), widths=(12, 20, 41))
    data = load_data(ctc(tmp_path / "in", recipe=recipe, image_size=(16, 999)))
    assert data.recipe.aspect == "keep"
    expected = {f"{gray:04d}": -(-2 * (12, 20, 41)[gray % 3] // WIDTH_STEP) * WIDTH_STEP for gray in range(60)}
    found = {t: i.shape[1] for side in data.sides.values() for i, t in zip(side.images, side.texts, strict=True)}
    assert found == expected and {*found.values()} == {32, 48, 96}
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for images, labels in loader:
            assert images.shape == (len(labels), data.recipe.channels, 16, expected[labels[0]])
            assert {expected[label] for label in labels} == {images.shape[3]}


def test_one_shape_is_squeezed_whatever_its_size(tmp_path: Path) -> None:
    for gray in range(40):
        write(tmp_path / "in" / f"{gray:04d}.png", gray, ((60, 20), (120, 40), (63, 20))[gray % 3])
    data = load_data(ctc(tmp_path / "in"))
    assert data.recipe.aspect == "squeeze" and {image.shape for image in data.train.images} == {(32, 128, 1)}


@pytest.mark.parametrize("aspect", ["squeeze", "keep"])
def test_the_aspect_that_was_asked_for_is_used(tmp_path: Path, aspect: str) -> None:
    for name, widths in (("one", (30,)), ("mixed", (30, 60))):
        data = load_data(ctc(write_all(tmp_path / name, range(40), widths), aspect=aspect, image_size=(16, 50)))
        assert data.recipe.aspect == aspect
        widths = {64, 128} if name == "mixed" else {64}
        assert {image.shape[1] for image in data.train.images} == ({50} if aspect == "squeeze" else widths)


def test_mixed_widths_are_refused_by_a_recipe_of_one_shape_and_squeezed_where_asked_for(tmp_path: Path) -> None:
    write_all(tmp_path / "in", range(40), widths=(12,) * 19 + (30,))
    with pytest.raises(
        DataError, match=r"(?s)resnet18 reads one shape; .* 2 files: 0019.png \(30 x 8\), .*aspect='squeeze'"
    ):
        load_data(config(tmp_path / "in"))
    data = load_data(config(tmp_path / "in", aspect="squeeze"))
    assert all_texts(data) == named(range(40)) and {image.shape for image in data.train.images} == {(32, 64, 1)}
    assert not any(misplaced(dataset) for dataset in data.sides.values())
    with pytest.raises(ValueError, match="resnet18.*aspect='keep' needs a CTC recipe"):
        load_data(config(tmp_path / "in", aspect="keep"))


def test_an_error_about_shapes_always_names_files(tmp_path: Path) -> None:
    """Also where each is near the usual shape, and only the widest and the narrowest are far from each other."""
    for gray in range(40):
        write(tmp_path / "in" / f"{gray:04d}.png", gray, ({0: 95, 1: 105}.get(gray, 100), 40))
    try:
        data = load_data(config(tmp_path / "in"))
    except DataError as error:
        assert ".png" in str(error)
        data = load_data(config(tmp_path / "in", on_bad="skip"))
        assert data.bad
    assert len(all_texts(data)) + len(data.bad) == 40


# --- batches ---------------------------------------------------------------------------------------------------------


def widths_of(batches: Iterable[list[int]], widths: list[int]) -> list[set[int]]:
    return [{widths[index] for index in batch} for batch in batches]


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("batch_size", [1, 4, 16, 1000])
def test_batches_hold_each_index_once_and_one_width_each(seed: int | None, batch_size: int) -> None:
    widths = np.random.default_rng(0).choice([64, 80, 96, 320], 150, p=[0.6, 0.3, 0.09, 0.01]).tolist()
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = WidthBatches(widths, batch_size, generator)
    for _ in range(3):
        drawn = [*batches]
        assert sorted(sum(drawn, [])) == [*range(150)] and len(drawn) == len(batches)
        assert all(len(width) == 1 for width in widths_of(drawn, widths))
        counts = Counter(
            (*width, len(batch) == batch_size) for width, batch in zip(widths_of(drawn, widths), drawn, strict=True)
        )
        assert all(counts[width, False] <= 1 for width in widths)  # at most one that is not full


@pytest.mark.parametrize(
    ("count", "size", "batches"), [(40, 16, 2), (40, 10, 4), (40, 64, 1), (40, 40, 1), (41, 40, 1)]
)
def test_only_a_training_of_one_width_goes_without_a_last_batch_that_is_not_full(
    count: int, size: int, batches: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    training = [*WidthBatches([64] * count, size, generator)]
    assert len(training) == len(WidthBatches([64] * count, size, generator)) == batches
    assert {len(batch) for batch in training} == {min(size, count)}
    assert sorted(sum(WidthBatches([64] * count, size), [])) == [*range(count)]
    mixed = [64] * count + [80]
    assert sorted(sum(WidthBatches(mixed, size, generator), [])) == [*range(count + 1)]


def test_a_few_of_a_width_are_not_lost_for_the_training() -> None:
    """The images that one pass leaves out come in another."""
    batches = WidthBatches([64] * 41, 40, torch.Generator().manual_seed(0))
    assert len({index for _ in range(20) for batch in batches for index in batch}) == 41


def test_batches_are_seeded_and_drawn_anew_in_each_pass() -> None:
    widths = [64, 64, 80] * 30
    passes = []
    for seed in (0, 0, 1):
        batches = WidthBatches(widths, 8, torch.Generator().manual_seed(seed))
        passes.append([[*batches] for _ in range(3)])
    assert passes[0] == passes[1] != passes[2]
    first, second, _ = passes[0]
    assert first != second and sorted(map(sorted, first)) != sorted(map(sorted, second))  # not only in another order
    order = [min(width) for width in widths_of(first, widths)]
    assert order != sorted(order) and order != sorted(order, reverse=True)  # widths take turns
    assert [*WidthBatches(widths, 8)] == [*WidthBatches(widths, 8)]


@pytest.mark.parametrize(("recipe", "channels"), [("resnet18", 1), ("cnn_gru_ctc", 3)])
@pytest.mark.parametrize("augment", [False, True])
def test_what_a_batch_holds(tmp_path: Path, recipe: str, channels: int, augment: bool) -> None:
    data = load_data(config(write_all(tmp_path / "in", range(50)), recipe=recipe, augment=augment, batch_size=16))
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        images, labels = next(iter(loader))
        assert images.dtype == torch.float32 and images.shape == (len(labels), channels, 32, 64)
        assert type(labels) is list and all(type(label) is str for label in labels)


@pytest.mark.parametrize("batch_size", [16, 10, 64])
def test_a_training_epoch_covers_all_but_a_dropped_last_batch(tmp_path: Path, batch_size: int) -> None:
    data = load_data(config(write_all(tmp_path / "in", range(50)), batch_size=batch_size))
    seen = len(data.train) // batch_size * batch_size or len(data.train)
    loader = data.train_dataloader()
    first, second = epoch(loader), epoch(loader)
    for labels in (first, second):
        assert len(labels) == len(set(labels)) == seen and set(labels) <= set(data.train.texts)
    assert first != second and first != data.train.texts  # shuffled, anew in each epoch
    assert epoch(data.train_dataloader()) == first  # and seeded
    assert epoch(data.val_dataloader()) == data.val.texts and epoch(data.test_dataloader()) == data.test.texts


def test_only_the_training_side_is_augmented(tmp_path: Path) -> None:
    data = load_data(config(write_all(tmp_path / "in", range(100, 150)), augment=True))
    assert misplaced(data.train) and not misplaced(data.val) and not misplaced(data.test)


@pytest.mark.skipif(sys.platform != "linux", reason="loader processes are used where they can be forked")
def test_loader_processes_do_not_repeat_each_other() -> None:
    """One picture in two batches by two processes in two epochs: no augmentation occurs twice."""
    settings = config("nowhere", augment=True, workers=2, batch_size=8)
    picture = np.random.default_rng(0).integers(256, size=(32, 64, 1), dtype=np.uint8)
    samples = [Sample(Path(f"{i}.png"), f"{i:04d}") for i in range(18)]
    sides = ["train"] * 16 + ["val", "test"]

    def one_by_one() -> DataLoader:
        data = CaptchaData(samples, [picture] * 18, sides, settings, get_recipe(settings))
        described = train_transform((0.5,), (0.5,), settings.seed)
        data.train.transform = A.Compose([A.GridDistortion(p=1), *described.transforms], seed=settings.seed)
        return data.train_dataloader()

    data = CaptchaData(samples, [picture] * 18, sides, settings, get_recipe(settings))
    assert isinstance(data.train_dataloader(), Batches)
    loader = one_by_one()  # as soon as an augmentation has no form for batches
    assert loader.num_workers == 2
    images = torch.cat([batch for _ in range(2) for batch, _ in loader])
    plain = data.val[0][0]
    changed = [image for image in images if not torch.equal(image, plain)]  # a few are left as they are
    assert len(images) == 32 and len(changed) > 20
    assert not any(torch.equal(a, b) for a, b in combinations(changed, 2))
    again = one_by_one()
    assert torch.equal(images, torch.cat([batch for _ in range(2) for batch, _ in again]))  # and seeded


@pytest.mark.parametrize("widths", [(12,), (12, 30)])
def test_batches_of_memory_hold_what_the_transform_makes_of_each_image(tmp_path: Path, widths: tuple[int, ...]) -> None:
    data = load_data(config(write_all(tmp_path / "in", range(50), widths), aspect="keep", recipe="conv_ctc"))
    expected = {
        text: data.val.transform(image=i)["image"] for i, text in zip(data.val.images, data.val.texts, strict=True)
    }
    assert isinstance(loader := data.val_dataloader(), Batches) and len(loader) == len([*loader])
    seen = {text: image for images, texts in loader for image, text in zip(images, texts, strict=True)}
    assert seen.keys() == expected.keys()
    assert all(torch.allclose(seen[text], expected[text], atol=1e-6) for text in seen)


# --- the cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The contents that were decoded, since the list was last cleared."""
    contents: list[bytes] = []
    original = decoding.open_picture
    monkeypatch.setattr(decoding, "open_picture", lambda content: contents.append(content) or original(content))
    return contents


def test_a_second_load_decodes_nothing_and_gives_the_same(tmp_path: Path, opened: list[bytes]) -> None:
    write_all(tmp_path / "in", range(40), widths=(12, 30))
    first = load_data(ctc(tmp_path / "in"))
    assert len(opened) >= 40 and list((tmp_path / "work").rglob("*.npz"))
    opened.clear()
    second = load_data(ctc(tmp_path / "in"))
    assert opened == [] and sides_of(second) == sides_of(first)
    for side in SPLITS:
        for a, b in zip(first.sides[side].images, second.sides[side].images, strict=True):
            assert np.array_equal(a, b)


def test_other_settings_do_not_take_each_others_pictures(tmp_path: Path, opened: list[bytes]) -> None:
    write_all(tmp_path / "one" / "in", range(40), widths=(12, 30))
    write_all(tmp_path / "two" / "in", range(40, 80), widths=(12, 30))
    settings = [
        *({"image_size": size} for size in ((32, 128), (16, 64))),
        *({"recipe": recipe} for recipe in ("conv_ctc", "cnn_gru_ctc")),
        *({"aspect": aspect} for aspect in ("keep", "squeeze")),
        {"data": tmp_path / "two" / "in"},
    ]
    settings = [ctc(**{"data": tmp_path / "one" / "in"} | given) for given in settings]
    for given in settings:
        load_data(given)
    opened.clear()
    loaded = [load_data(given) for given in settings]
    assert opened == []  # nor do they push each other out
    for given, cached in zip(settings, loaded, strict=True):
        plain = load_data(replace(given, cache=False))
        assert all(np.array_equal(a, b) for a, b in zip(cached.train.images, plain.train.images, strict=True))


def test_without_a_cache_nothing_is_written(tmp_path: Path, opened: list[bytes]) -> None:
    load_data(config(write_all(tmp_path / "in", range(40)), cache=False))
    assert not (tmp_path / "work").exists()
    opened.clear()
    load_data(config(tmp_path / "in", cache=False))
    assert len(opened) == 40


def test_on_kaggle_the_cache_is_not_kept_with_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "on_kaggle", lambda: True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    load_data(config(write_all(tmp_path / "in", range(40))))
    assert not (tmp_path / "work").exists() and list((tmp_path / "temporary").rglob("*.npz"))


# --- synthetic captchas ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["resnet18", "conv_ctc"])
def test_synthetic_captchas_in_memory_are_those_of_the_files(tmp_path: Path, recipe: str) -> None:
    length = 4 if recipe == "resnet18" else (4, 6)
    description = "synthetic:count=60" + ",length=4-6" * (recipe != "resnet18")  # which has a length of its own
    before = {*tmp_path.rglob("*")}
    memory = load_data(config(description, recipe=recipe, image_size=(32, 96)))
    assert {*tmp_path.rglob("*")} == before  # nothing is written
    folder = make_captchas(tmp_path / "in", 60, length=length, image_size=(32, 96))
    files = load_data(config(folder, recipe=recipe, image_size=(32, 96)))
    for side in SPLITS:
        in_memory = dict(zip(memory.sides[side].texts, memory.sides[side].images, strict=True))
        in_files = dict(zip(files.sides[side].texts, files.sides[side].images, strict=True))
        assert in_memory.keys() == in_files.keys()
        assert all(np.array_equal(in_memory[text], in_files[text]) for text in in_files)
    assert memory.charset == files.charset and memory.source == str(Synthetic(60, length=length, image_size=(32, 96)))


def test_synthetic_captchas_have_names_and_an_audit() -> None:
    data = load_data(ctc("synthetic:count=60,length=4-6,charset=ABC123"))
    assert {row[0] for row in data.split_rows()} == {f"{text}.png" for text in all_texts(data)}
    assert data.audit.images == 60 and data.audit.errors == [] and data.source in str(data)
    assert {*data.audit.lengths} == {"4", "5", "6"} and {*data.charset} <= {*"ABC123"}


def test_synthetic_captchas_of_another_size_than_the_recipes(tmp_path: Path) -> None:
    squeezed, kept = (load_data(ctc("synthetic:count=20,size=100x50", aspect=aspect)) for aspect in ("auto", "keep"))
    assert {image.shape for image in squeezed.train.images} == {(32, 128, 1)}
    assert {image.shape for image in kept.train.images} == {(32, 64, 1)}


def test_synthetic_captchas_follow_the_case_that_is_asked_for() -> None:
    data = load_data(ctc("synthetic:count=30,charset=abcDEF12", case="lower"))
    assert {*"".join(all_texts(data))} <= {*"abcdef12"}


@pytest.mark.parametrize("wrong", ["synthetic:count=sixty", "synthetic:cont=60", "synthetic:count=2,length=0"])
def test_synthetic_captchas_that_cannot_be_made(wrong: str) -> None:
    with pytest.raises(ValueError, match="cannot be used"):
        load_data(ctc(wrong))


def test_the_default_data_set_is_loaded_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_data(Config(recipe="resnet18", synthetic_count=12))
    assert sum(map(len, data.sides.values())) == 12 and data.text_length == 4
    assert tmp_path / "work" in data.source.parents


# --- what a data set says of itself ----------------------------------------------------------------------------------


def test_charset_and_text_length_are_of_the_training_texts(tmp_path: Path) -> None:
    for index, (side, names) in enumerate({"train": ["baab", "bcb1", "caa"], "val": ["zzzzz"], "test": ["yy"]}.items()):
        for number, name in enumerate(names):
            write(tmp_path / "in" / side / f"{name}.png", 50 * index + number)
    data = load_data(ctc(tmp_path / "in"))
    assert (data.charset, data.text_length) == ("1abc", None)  # as training texts differ
    write(tmp_path / "in" / "train" / "aacb.png", 250)
    (tmp_path / "in" / "train" / "caa.png").unlink()
    assert load_data(ctc(tmp_path / "in")).text_length == 4
    assert load_data(ctc(tmp_path / "in", charset="zyxabc1")).charset == "zyxabc1"


def test_split_rows_are_relative_to_the_source(tmp_path: Path, as_source: Callable[[Path], Path]) -> None:
    data = load_data(config(as_source(write_all(tmp_path / "in" / "deep", range(50)).parent)))
    rows = data.split_rows()
    assert sorted(row[0] for row in rows) == [f"deep/{text}.png" for text in named(range(50))]
    assert all(Path(name).stem == text for name, text, *_ in rows)
    assert {side: [text for _, text, at, _ in rows if at == side] for side in SPLITS} == sides_of(data)


def test_split_rows_know_each_file_by_its_bytes(tmp_path: Path) -> None:
    """In a folder, in a zip and under another name alike; of captchas made in memory by those that the files would have."""
    folder = write_all(tmp_path / "in", range(30))
    known = {row[1]: row[3] for row in load_data(config(folder)).split_rows()}
    expected = {p.stem: hashlib.blake2b(p.read_bytes(), digest_size=16).hexdigest() for p in folder.glob("*.png")}
    assert known == expected and len({*known.values()}) == 30
    assert {row[1]: row[3] for row in load_data(config(pack(folder, tmp_path / "x.zip"))).split_rows()} == known
    assert {row[1]: row[3] for row in load_data(config(folder)).split_rows()} == known  # from the cache
    spec = "synthetic:count=20,style=clean,size=64x32"
    (tmp_path / "painted").mkdir()
    for text, content in zip(Synthetic.parse(spec).texts(), Synthetic.parse(spec).pictures(), strict=True):
        (tmp_path / "painted" / f"{text}.png").write_bytes(content)
    in_memory, on_disk = (
        {row[1]: row[3] for row in load_data(ctc(s)).split_rows()} for s in (spec, tmp_path / "painted")
    )
    assert in_memory == on_disk and all(in_memory.values())


def test_captchas_of_repeated_texts_have_names_of_their_own_and_one_side_for_a_text() -> None:
    rows = load_data(ctc("synthetic:count=60,charset=O0X,length=3,style=clean,size=64x32,repeats=yes")).split_rows()
    assert len({file for file, *_ in rows}) == len({content for *_, content in rows}) == len(rows) == 60
    assert len({(text, side) for _, text, side, _ in rows}) == len({text for _, text, *_ in rows}) < 28
    assert all(file.endswith(f"-{text}.png") for file, text, *_ in rows)


def test_split_rows_of_a_table_that_names_files_elsewhere(tmp_path: Path) -> None:
    write_all(tmp_path / "pictures", range(30))
    rows = [(str(tmp_path / "pictures" / f"{text}.png"), text) for text in named(range(30))]
    data = load_data(config(table(tmp_path / "tables" / "labels.csv", rows)))
    assert sorted(Path(row[0]).name for row in data.split_rows()) == [f"{text}.png" for text in named(range(30))]


def test_a_data_set_prints_what_it_holds(tmp_path: Path) -> None:
    write_all(tmp_path / "in", range(50))
    data = load_data(config(tmp_path / "in"))
    said = str(data)
    assert f"captchas of {tmp_path / 'in'}: {len(data.train)} train, {len(data.val)} val, {len(data.test)} test" in said
    assert "charset of 10: 0123456789" in said and "images 32 high, 64 wide (pixels), 1 channels" in said
    assert "WARNING" not in said and "left out" not in said
    write(tmp_path / "in" / "12345.png", 200, (24, 8))
    data = load_data(ctc(tmp_path / "in", seed=1))
    counts = [f"{sum(len(text) == 5 for text in data.sides[side].texts)} {side}" for side in SPLITS]
    assert f"texts of 5 characters: {', '.join(counts)}" in str(data)
    assert "48 to 96 wide" in str(data) if "12345" in data.train.texts else "48 wide" in str(data)


def test_collect_leaves_nothing_out(tmp_path: Path) -> None:
    write_all(tmp_path / "in", range(30))
    unreadable(tmp_path / "in")
    found = collect(config(tmp_path / "in"))
    assert len(found.samples) == len(found.pictures) == found.audit.images == 31
    assert [
        sample.path.name for sample, picture in zip(found.samples, found.pictures, strict=True) if picture.problem
    ] == ["0003.png", "0007.png", "0100.png"]


@pytest.mark.parametrize("shown", [1, 5, 24])
def test_a_contact_sheet_shows_every_kind_with_its_own_text(shown: int) -> None:
    texts = [f"{gray:04d}" for gray in range(200)]
    texts[17], texts[150] = "x" * 7, "y" * 3
    samples = [Sample(Path(f"{gray}.png"), text) for gray, text in enumerate(texts)]
    images = [np.full((16, 96 if gray == 60 else 48, 3), gray, np.uint8) for gray in range(200)]
    figure = contact_sheet(samples, images, shown)
    axes = [axis for axis in figure.axes if axis.images]
    pairs = [(int(np.asarray(axis.images[0].get_array()).max()), axis.get_title()) for axis in axes]
    plt.close(figure)
    assert len(pairs) == shown and len({*pairs}) == shown
    assert all(texts[gray] == title for gray, title in pairs)
    if shown == 24:
        assert {17, 60, 150} <= {gray for gray, _ in pairs}


def test_the_contact_sheet_is_of_the_training_side(tmp_path: Path) -> None:
    data = load_data(config(write_all(tmp_path / "in", range(50))))
    figure = contact_sheet(data.train.samples, data.train.images, 12)
    titles = {axis.get_title() for axis in figure.axes if axis.images}
    plt.close(figure)
    assert len(titles) == 12 and titles <= set(data.train.texts)
