"""The batch form of the augmentation against albumentations: the same pixels for the same parameters, drawn alike."""

import albumentations as A
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image, ImageDraw, ImageFont

from helpers.data.augment import BatchTransform, as_step
from helpers.data.transforms import eval_transform, train_transform
from helpers.models.recipes import RECIPES

STEPS = train_transform((0.5,), (0.5,), seed=0).transforms[:-2]
SHAPES = [(32, 96, 1), (40, 150, 3)]  # (H, W, C)


def captchas(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (count, H, W, C): letters on gray, their edges soft as in a picture that was scaled."""
    picture = Image.new("RGB", (shape[1], shape[0]), (200, 190, 180))
    ImageDraw.Draw(picture).text((8, 4), "4xYw8", (30, 60, 90), ImageFont.load_default(22))
    return np.stack([np.asarray(picture)[..., : shape[2]]] * count)


def tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def by_albumentations(step: A.BasicTransform, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the changed image, the parameters in the layout of the step for batches)."""
    params = step.get_params_dependent_on_data({"shape": image.shape}, {"image": image})
    changed = step.apply(image, **params)
    if isinstance(step, A.Affine):
        return changed, params["matrix"]
    if isinstance(step, A.GaussNoise):
        return changed, params["noise_map"].reshape(image.shape).transpose(2, 0, 1)
    return changed, np.array([params["alpha"], params["beta"]])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_the_same_parameters_give_the_same_pixels(step: A.BasicTransform, shape: tuple[int, int, int]) -> None:
    images = captchas(40, shape)
    step.set_random_seed(1)
    expected, params = zip(*(by_albumentations(step, image) for image in images), strict=True)
    params = torch.from_numpy(np.stack(params)).float()
    ours = as_step(step).apply(tensor(images).float(), params)
    differences = (ours - tensor(np.stack(expected)).float()).abs()  # levels
    assert (tensor(images).float() - ours).abs().mean() > 3  # something was done
    assert differences.mean() < 1 and differences.quantile(0.99) < 4, (differences.mean(), differences.max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_parameters_are_drawn_alike(step: A.BasicTransform, shape: tuple[int, int, int]) -> None:
    """Mean and deviation of every parameter, where the step is applied; and how often it is."""
    step.set_random_seed(2)
    image, count = captchas(1, shape)[0], 1500
    expected = np.stack([by_albumentations(step, image)[1].reshape(-1) for _ in range(count)])
    channels_first = torch.Size((2 * count, shape[2], *shape[:2]))
    drawn = as_step(step).draw(channels_first, torch.Generator().manual_seed(3)).flatten(1).double()
    nothing = {"Affine": torch.eye(3).flatten(), "RandomBrightnessContrast": torch.tensor([1.0, 0])}
    idle = nothing.get(type(step).__name__, torch.zeros(1)).double()
    applied = drawn[(drawn != idle).any(1)]
    assert abs(len(applied) / len(drawn) - step.p) < 0.03
    ours, theirs = applied.numpy(), expected
    if isinstance(step, A.GaussNoise):  # the deviation of the noise is the parameter
        ours, theirs = ours.std(1, keepdims=True), theirs.std(1, keepdims=True)
    if isinstance(step, A.Affine):  # entries belong together: a wrong sign shows in how they vary with each other
        moving = [0, 1, 2, 3, 4, 5]
        assert abs(np.corrcoef(ours.T[moving]) - np.corrcoef(theirs.T[moving])).max() < 0.12
    spread = theirs.std(0) + 1e-6
    assert (abs(ours.mean(0) - theirs.mean(0)) / spread).max() < 0.15
    assert (abs(ours.std(0) / spread - 1))[spread > 1e-4].max() < 0.1


def test_channels_are_shuffled_as_by_albumentations_each_order_as_often() -> None:
    (step,) = (
        step for step in train_transform((0.5,) * 3, (0.5,) * 3, 0).transforms if isinstance(step, A.ChannelShuffle)
    )
    count, images = 3000, captchas(1, SHAPES[1])
    order = as_step(step).draw(torch.Size((count, 3, 2, 2)), torch.Generator().manual_seed(3))
    kinds, counts = order.unique(dim=0, return_counts=True)
    assert len(kinds) == 6 and (counts - count / 6).abs().max() < 100
    for kind in kinds:
        expected = step.apply(images[0], channels_shuffled=kind.numpy())
        assert torch.equal(as_step(step).apply(tensor(images), kind[None])[0], tensor(expected[None])[0])
    half = as_step(A.ChannelShuffle(p=0.5)).draw(torch.Size((count, 3, 2, 2)), torch.Generator().manual_seed(3))
    assert abs((half == torch.arange(3)).all(1).float().mean() - (0.5 + 0.5 / 6)) < 0.03


@pytest.mark.parametrize("name", RECIPES)
def test_without_augmentation_it_is_the_eval_transform(name: str) -> None:
    mean, std = RECIPES[name].mean, RECIPES[name].std
    images = captchas(3, (32, 96, len(mean)))
    plain = eval_transform(mean, std)
    expected = torch.stack([plain(image=image)["image"] for image in images])
    assert torch.allclose(BatchTransform(plain)(tensor(images)), expected, atol=1e-5)


def test_a_seed_repeats_the_augmentation() -> None:
    images = tensor(captchas(8, SHAPES[0]))
    first, again, other = (
        [transform(images) for _ in range(2)]
        for transform in (BatchTransform(train_transform((0.5,), (0.5,), 0), seed) for seed in (3, 3, 4))
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], other[0])
    assert images.dtype == torch.uint8


@pytest.mark.parametrize(
    "step",
    [
        A.Blur(),
        A.Rotate(),
        A.Affine(border_mode=0),
        A.Affine(interpolation=0, border_mode=1),
        A.Affine(border_mode=1, fit_output=True),
        A.Affine(border_mode=1, balanced_scale=True),
        A.Affine(border_mode=1, translate_px=3),
        A.RandomBrightnessContrast(brightness_by_max=False),
        A.RandomBrightnessContrast(ensure_safe_range=True),
        A.GaussNoise(mean_range=(0, 0.1)),
        A.GaussNoise(per_channel=False),
        A.GaussNoise(noise_scale_factor=0.5),
    ],
)
def test_what_has_no_form_for_batches_is_named(step: A.BasicTransform) -> None:
    with pytest.raises(NotImplementedError, match=type(step).__name__):
        BatchTransform(A.Compose([step, A.Normalize((0.5,), (0.5,)), ToTensorV2()]))


def test_a_transform_ends_with_the_eval_transform() -> None:
    with pytest.raises(NotImplementedError, match="ends with A.Normalize and ToTensorV2"):
        BatchTransform(A.Compose([ToTensorV2(), A.Normalize((0.5,), (0.5,))]))
