"""Pictures to network input: every mode seen as a person sees it, normalised as by hand, augmented from a seed."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.data.transforms import eval_transform, train_transform
from helpers.models.recipes import RECIPES
from helpers.pictures.view import WHOLE, WIDTH_STEP, inked_columns, normalise, prepare
from tests.captchas import halves

MODES = [
    "1",
    "L",
    "LA",
    "P",
    "P transparent",
    "PA",
    "RGB",
    "RGB transparent",
    "RGBA",
    "I;16",
    "I",
    "F",
    "CMYK",
    "YCbCr",
    "HSV",
]
NORMALISATIONS = sorted({(recipe.mean, recipe.std) for recipe in RECIPES.values()})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_seen_alike(mode: str, channels: int) -> None:
    array = prepare(halves(mode), (8, 12), channels)
    assert array.shape == (8, 12, channels) and array.dtype == np.uint8
    assert (array[:, :6] == 0).all() and (array[:, 6:] == 255).all()


def test_colours_and_half_transparency() -> None:
    colour = (200, 30, 90)
    picture = Image.new("RGB", (4, 4), colour)
    assert (prepare(picture, (4, 4), 3) == colour).all()
    gray = round(0.299 * 200 + 0.587 * 30 + 0.114 * 90)  # ITU-R 601-2 luma
    assert (abs(prepare(picture, (4, 4), 1).astype(int) - gray) <= 1).all()
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 102))  # 60 % of the white shines through
    assert (abs(prepare(half, (4, 4), 3).astype(int) - 153) <= 1).all()


LEVELS = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize(
    "stored",
    [
        LEVELS.astype(np.uint16) * 257,
        LEVELS.astype(np.int32) * 257,
        LEVELS.astype(np.uint16),  # 8 bits in 16
        LEVELS.astype(np.int32),
        LEVELS.astype(np.float32),
        (LEVELS / 255).astype(np.float32),
    ],
    ids=["16 bits", "32 bits", "8 in 16 bits", "8 in 32 bits", "float to 255", "float to 1"],
)
def test_depths_are_scaled_and_not_clipped(stored: np.ndarray) -> None:
    assert (prepare(Image.fromarray(stored), (16, 16), 1)[..., 0] == LEVELS).all()
    assert (prepare(Image.fromarray(stored), (16, 16), 3) == LEVELS[..., None]).all()


@pytest.mark.parametrize(
    "stored",
    [np.float32([[0, 256]]), np.float32([[-1, 0]]), np.float32([[0, np.nan]]), np.int32([[-1]]), np.int32([[65536]])],
)
def test_depths_without_a_known_range_are_refused(stored: np.ndarray) -> None:
    with pytest.raises(ValueError, match="gray values from .* have no known range: save 8 bits"):
        prepare(Image.fromarray(stored), (8, 8), 1)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (31, 17), (300, 80), (80, 300)])  # (width, height), as Pillow has it
@pytest.mark.parametrize("image_size", [(40, 150), (64, 128), (7, 5)])
def test_sizes(size: tuple[int, int], image_size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (9, 99, 199))
    array = prepare(picture, image_size, 3)
    assert array.shape == (*image_size, 3) and (array == (9, 99, 199)).all()


def test_the_whole_picture_is_seen_whatever_its_aspect() -> None:
    array = prepare(halves("L").resize((90, 30)), (64, 32), 1)
    assert array[:, :12].max() == 0 and array[:, -12:].min() == 255


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((40, 160), np.uint8)
    stripes[:, ::4] = 240  # one column of four: nearest or plain bilinear sampling would see all of them or none
    shrunk = prepare(Image.fromarray(stripes), (10, 40), 1)[:, 1:-1]
    assert abs(shrunk.astype(int) - 60).max() <= 1


@pytest.mark.parametrize("width", [1, 5, 31, 32, 33, 64, 200])
@pytest.mark.parametrize("image_size", [(40, 150), (8, 999), (16, 1)])  # whose width does not matter
def test_aspect_is_kept_up_to_a_whole_step(width: int, image_size: tuple[int, int]) -> None:
    """A picture that is as much wider as it is higher, then its last column over and over."""
    levels = np.random.default_rng(width).integers(256, size=(16, width, 3), dtype=np.uint8)
    height, own = image_size[0], max(1, round(width * image_size[0] / 16))
    array = prepare(Image.fromarray(levels), image_size, 3, keep_aspect=True)
    assert array.shape == (height, -(-own // WIDTH_STEP) * WIDTH_STEP, 3) and array.shape[1] - own < WIDTH_STEP
    assert (array[:, :own] == prepare(Image.fromarray(levels), (height, own), 3)).all()
    assert (array[:, own:] == array[:, own - 1 : own]).all()


def test_a_turned_picture_keeps_the_aspect_in_which_it_is_seen() -> None:
    picture = Image.new("L", (20, 100))
    picture.getexif()[0x0112] = 6  # lies on its side
    assert prepare(picture, (20, 1), 1, keep_aspect=True).shape == (20, 112, 1)
    assert prepare(picture, (20, 1), 1).shape == (20, 1, 1)


def test_prepare_leaves_the_picture_as_it_is() -> None:
    picture = halves("RGBA")
    before = picture.tobytes()
    prepare(picture, (4, 4), 1)
    assert picture.tobytes() == before and picture.size == (12, 8)


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


def test_a_picture_too_long_to_keep_its_aspect_is_refused() -> None:
    with pytest.raises(ValueError, match="100000 x 1 pixels are too long"):
        prepare(Image.new("L", (100_000, 1)), (40, 150), 1, keep_aspect=True)
    assert prepare(Image.new("L", (100_000, 1)), (40, 150), 1).shape == (40, 150, 1)


def stroked(left: int, right: int, shaded: bool = False, line: bool = False, seed: int = 0) -> Image.Image:
    """200 x 50 pixels: upright strokes from column `left` to column `right`; on a slope of gray, with a line across."""
    levels = np.tile(np.linspace(255, 155 if shaded else 255, 200), (50, 1))
    rng = np.random.default_rng(seed)
    for column in np.linspace(left, right - 3, 14).astype(int):
        levels[10:40, column : column + 3] = 30
    if line:
        levels[rng.integers(5, 45)] = 90
    return Image.fromarray(levels.astype(np.uint8))


@pytest.mark.parametrize(("shaded", "line"), [(False, False), (True, False), (True, True)])
def test_inked_columns_are_where_the_strokes_are(shaded: bool, line: bool) -> None:
    rng = np.random.default_rng(1)
    ends = [(30 + rng.integers(0, 20), 140 - rng.integers(0, 30)) for _ in range(100)]
    pictures = [stroked(left, right, shaded, line, seed) for seed, (left, right) in enumerate(ends)]
    left, right = inked_columns(pictures)
    first, last = min(end[0] for end in ends), max(end[1] for end in ends)
    assert (
        0.04 < first / 200 - left + 0.04 < 0.07 and 0.04 < right - last / 200 + 0.04 < 0.07
    )  # all of it, and little more
    few = [stroked(5, 195)] + pictures
    assert inked_columns(few) == pytest.approx((left, right), abs=0.02)  # one in a hundred may reach further
    assert inked_columns(few[:1] * 10 + pictures)[1] > 0.95  # but not one in eleven
    assert inked_columns(pictures[:19]) == WHOLE  # too few to tell


@pytest.mark.parametrize("kind", ["blank", "noise"])
def test_pictures_without_margins_stay_whole(kind: str) -> None:
    rng = np.random.default_rng(2)
    arrays = [np.full((20, 60), 200) if kind == "blank" else rng.integers(256, size=(20, 60)) for _ in range(40)]
    assert inked_columns([Image.fromarray(array.astype(np.uint8)) for array in arrays]) == WHOLE


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_a_crop_is_the_part_between_two_columns(keep_aspect: bool) -> None:
    levels = np.random.default_rng(3).integers(256, size=(16, 64, 3), dtype=np.uint8)
    part = prepare(Image.fromarray(levels), (16, 32), 3, keep_aspect, crop=(0.25, 0.75))
    assert np.array_equal(part, levels[:, 16:48])
    assert np.array_equal(prepare(Image.fromarray(levels), (16, 64), 3, crop=WHOLE), levels)


@pytest.mark.parametrize("channels", [1, 3])
def test_readers_normalise_as_training_does(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, channels), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    seen = normalise(pixels, mean, std)
    assert seen.dtype == np.float32 and seen.shape == (channels, 8, 12)
    assert seen == pytest.approx(eval_transform(mean, std)(image=pixels)["image"].numpy(), abs=1e-5)
