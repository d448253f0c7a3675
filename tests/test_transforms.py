"""Pictures to network input: every mode seen as a person sees it, normalised as by hand, augmented from a seed."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.recipes import RECIPES
from helpers.transforms import eval_transform, prepare, train_transform

MODES = ["1", "L", "LA", "P", "P transparent", "RGB", "RGB transparent", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr"]
NORMALISATIONS = sorted({(recipe.mean, recipe.std) for recipe in RECIPES.values()})


def black_and_white(mode: str) -> Image.Image:
    """8 x 8: the left half black; the right half white, or black and transparent where the mode can say so."""
    levels = np.zeros((8, 8), np.uint8)
    levels[:, 4:] = 255
    gray = Image.fromarray(levels)
    if mode in ("I;16", "I", "F"):
        array = (levels.astype(np.uint16) * 257).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        picture = Image.fromarray(array)
    elif mode in ("LA", "RGBA"):
        picture = Image.new(mode, (8, 8))
        picture.putalpha(Image.fromarray(255 - levels))
    elif mode == "P transparent":
        picture = Image.fromarray((levels // 255).astype(np.uint8)).convert("L")
        picture.putpalette([0, 0, 0] * 2)
        picture.info["transparency"] = 1
    elif mode == "RGB transparent":  # a colour that stands for nothing, as PNG's tRNS chunk has it
        picture = Image.new("RGB", (8, 8))
        picture.paste((0, 0, 9), (4, 0, 8, 8))
        picture.info["transparency"] = (0, 0, 9)
    else:
        picture = gray.convert(mode)
    assert picture.mode == mode.split()[0]
    return picture


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_seen_alike(mode: str, channels: int) -> None:
    array = prepare(black_and_white(mode), (8, 8), channels)
    assert array.shape == (8, 8, channels) and array.dtype == np.uint8
    assert (array[:, :4] == 0).all() and (array[:, 4:] == 255).all()


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *(("png", mode) for mode in ("1", "LA", "P transparent", "RGB transparent", "RGBA", "I;16")),
        *(("tif", mode) for mode in ("1", "LA", "RGBA", "I;16", "CMYK")),
        *(("gif", mode) for mode in ("P", "P transparent")),
    ],
)
def test_modes_survive_a_file(tmp_path: Path, mode: str, suffix: str) -> None:
    original = black_and_white(mode)
    original.save(tmp_path / f"x.{suffix}", **original.info)
    with Image.open(tmp_path / f"x.{suffix}") as picture:
        array = prepare(picture, (8, 8), 1)
    assert (array[:, :4] == 0).all() and (array[:, 4:] == 255).all()


def test_colours_and_half_transparency() -> None:
    colour = (200, 30, 90)
    picture = Image.new("RGB", (4, 4), colour)
    assert (prepare(picture, (4, 4), 3) == colour).all()
    gray = round(0.299 * 200 + 0.587 * 30 + 0.114 * 90)  # ITU-R 601-2 luma
    assert (abs(prepare(picture, (4, 4), 1).astype(int) - gray) <= 1).all()
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 102))  # 60 % of the white shines through
    assert (abs(prepare(half, (4, 4), 3).astype(int) - 153) <= 1).all()


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    assert (prepare(Image.fromarray(levels * 257), (16, 16), 1)[..., 0] == levels).all()


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, quarter_turns: int) -> None:
    stored = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    seen = np.rot90(stored, quarter_turns)  # counter-clockwise
    with Image.open(tmp_path / "x.png") as picture:
        assert (prepare(picture, seen.shape, 1)[..., 0] == seen).all()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (31, 17), (300, 80), (80, 300)])  # (width, height), as Pillow has it
@pytest.mark.parametrize("image_size", [(40, 150), (64, 128), (7, 5)])
def test_sizes(size: tuple[int, int], image_size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (9, 99, 199))
    array = prepare(picture, image_size, 3)
    assert array.shape == (*image_size, 3) and (array == (9, 99, 199)).all()


def test_the_whole_picture_is_seen_whatever_its_aspect() -> None:
    array = prepare(black_and_white("L").resize((90, 30)), (64, 32), 1)
    assert array[:, :12].max() == 0 and array[:, -12:].min() == 255


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((40, 160), np.uint8)
    stripes[:, ::4] = 240  # one column of four: nearest or plain bilinear sampling would see all of them or none
    shrunk = prepare(Image.fromarray(stripes), (10, 40), 1)[:, 1:-1]
    assert abs(shrunk.astype(int) - 60).max() <= 1


def test_prepare_leaves_the_picture_as_it_is() -> None:
    picture = black_and_white("RGBA")
    before = picture.tobytes()
    prepare(picture, (4, 4), 1)
    assert picture.tobytes() == before and picture.size == (8, 8)


def noise(channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(32, 64, channels), dtype=np.uint8)


@pytest.mark.parametrize(("mean", "std"), NORMALISATIONS)
def test_eval_transform_by_hand(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    image = noise(len(mean))
    tensor = eval_transform(mean, std)(image=image)["image"]
    expected = ((image.astype(np.float64) / 255 - mean) / std).transpose(2, 0, 1)
    assert tensor.dtype == torch.float32 and tensor.shape == (len(mean), 32, 64)
    assert np.allclose(tensor.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), NORMALISATIONS)
def test_train_transform_gives_what_the_eval_transform_gives(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    image = np.full((32, 64, len(mean)), 128, np.uint8)  # geometry leaves it as it is
    plain = eval_transform(mean, std)(image=image)["image"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transform = train_transform(mean, std, seed=0)
        tensors = torch.stack([transform(image=image)["image"] for _ in range(40)])
    assert tensors.dtype == torch.float32 and tensors.shape == (40, len(mean), 32, 64)
    assert any(torch.equal(tensor, plain) for tensor in tensors)  # where neither contrast nor noise was drawn
    assert (tensors.mean((0, 2, 3)) - plain.mean((1, 2))).abs().max() < 0.2  # and light on the whole
    assert (image == 128).all()


def test_augmentations_are_seeded() -> None:
    image = noise(1)
    first, again, other = (
        [transform(image=image)["image"] for _ in range(5)]
        for transform in (train_transform((0.5,), (0.5,), seed) for seed in (3, 3, 4))
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not any(torch.equal(first[i], first[j]) for i in range(5) for j in range(i))
