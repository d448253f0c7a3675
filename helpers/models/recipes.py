"""The designs that can be trained: one row each names the network, the codec and the settings that suit them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import nn

from helpers.config import Config
from helpers.models import networks
from helpers.models.codec import Codec, CTCCodec, FixedLengthCodec
from helpers.pictures.view import WHOLE

SMALL = 2 / 3  # of height and width, that pictures have over `small_share`
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """A network, a codec and how they are trained. What `Config` leaves at None comes from here."""

    name: str
    image_size: tuple[int, int]  # (height, width), pixels
    mean: tuple[float, ...]  # one per channel, of images in [0, 1]; as many channels as means
    std: tuple[float, ...]
    make_network: Callable[..., nn.Module]  # of classes, image_size, channels (length, pretrained: fixed length only)
    fixed_length: bool  # every text has the same number of characters
    epochs: int  # at least
    steps: int  # at least: a small data set gets more epochs
    batch_size: int  # images per step
    learning_rate: float  # peak of the one-cycle schedule
    warmup_share: float = 0  # of all steps, over which the codec's warm-up loss takes part
    small_share: float = 0  # of all steps, from the first on, over which pictures are trained on at `small_size`
    any_size: bool = False  # the network reads pictures of any height and width, so that they may be small
    strength: float = 1  # of the augmentation; 1 is light
    fit_width: bool = False  # the width of image_size follows the shape of the training pictures
    aspect: str = "auto"  # "squeeze" pictures to image_size, "keep" their width : height, or "auto": as the data needs
    crop: tuple[float, float] | None = None  # columns kept, (left, right) in shares; None: where training has strokes

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def view(self) -> tuple[tuple[int, int], int, bool, tuple[float, float]]:
        """How a picture is prepared: the arguments of `transforms.prepare`."""
        return self.image_size, self.channels, self.aspect == "keep", self.crop or WHOLE

    def epochs_for(self, images: int) -> int:
        """Passes over that many training images that make at least `epochs` and at least `steps`."""
        return max(self.epochs, ceil(self.steps / max(1, images // self.batch_size)))

    def codec(self, charset: str, text_length: int | None) -> Codec:
        """The codec for texts over the charset, all of `text_length` characters; None: they differ, as CTC allows."""
        return FixedLengthCodec(charset, text_length or 4) if self.fixed_length else CTCCodec(charset, text_length)

    def steps_for(self, network: nn.Module, widths: Iterable[int]) -> dict[int, int]:
        """The steps (T) of the network's logits for images of each width, in pixels, at their fewest over the training.

        Raises ValueError for images that are too small.
        """
        steps = {}
        network.eval()
        for width in widths:
            size = (self.image_size[0], width)
            size = small_size(size) if self.small_share else size
            try:
                with torch.inference_mode():
                    steps[width] = network(torch.zeros(1, self.channels, *size)).shape[1]
            except RuntimeError as error:
                raise ValueError(f"images of {size} (height, width) are too small for {self.name}: {error}") from None
        return steps

    def network(self, codec: Codec, pretrained: bool = False) -> nn.Module:
        """The network whose logits the codec reads; `pretrained`: with ImageNet's weights, where it has such."""
        extra = {"length": codec.length, "pretrained": pretrained} if isinstance(codec, FixedLengthCodec) else {}
        return self.make_network(codec.classes, self.image_size, self.channels, **extra)


def small_size(size: Iterable[int]) -> tuple[int, ...]:
    """Height and width, in pixels, of pictures of that size over `small_share`."""
    return tuple(round(SMALL * side) for side in size)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("resnet18", (64, 128), (0.5,), (0.5,), networks.ResNet18, True, 6, 1200, 32, 1e-3),
        Recipe("cnn_gru_ctc", (40, 150), IMAGENET_MEAN, IMAGENET_STD, networks.CNNGRU, False, 12, 1000, 16, 5e-3, 0.2),
        Recipe(
            name="conv_ctc",
            image_size=(32, 128),
            mean=(0.5,),
            std=(0.5,),
            make_network=networks.ConvCTC,
            fixed_length=False,
            epochs=12,
            steps=1000,
            batch_size=16,
            learning_rate=4e-3,
            warmup_share=0.08,
            any_size=True,
            fit_width=True,
        ),
        Recipe(
            name="conv_ctc_tall",
            image_size=(60, 160),
            mean=(0.5,),
            std=(0.5,),
            make_network=networks.TallConvCTC,
            fixed_length=False,
            epochs=10,
            steps=2000,
            batch_size=64,
            learning_rate=1e-2,
            warmup_share=0.05,
            fit_width=True,
            strength=0.5,
        ),
        Recipe(
            name="conv_ctc_deep",
            image_size=(40, 160),
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            make_network=networks.DeepConvCTC,
            fixed_length=False,
            epochs=36,
            steps=2200,
            batch_size=16,
            learning_rate=3e-3,
            warmup_share=0.08,
            any_size=True,
            fit_width=True,
            strength=1.5,
        ),
    )
}


def get_recipe(config: Config) -> Recipe:
    """The recipe that the configuration names, with the configuration's own values in place. Raises ValueError."""
    if config.recipe not in RECIPES:
        raise ValueError(f"there is no recipe {config.recipe!r}; the recipes are {', '.join(RECIPES)}")
    names = ("image_size", "epochs", "batch_size", "learning_rate", "warmup_share", "small_share", "aspect")
    given = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    recipe = RECIPES[config.recipe]
    if config.pretrained and not recipe.fixed_length:  # the weights are off the blank plateau, and near their end
        given = {"warmup_share": 0, "learning_rate": recipe.learning_rate / 2} | given
    if "epochs" in given:
        given["steps"] = 0  # exactly as many epochs as asked for
    if "image_size" in given:
        given["fit_width"] = False
    if not config.crop:
        given["crop"] = WHOLE
    recipe = replace(recipe, **given)
    if recipe.small_share and not recipe.any_size:
        able = ", ".join(name for name, known in RECIPES.items() if known.any_size)
        raise ValueError(
            f"the recipe {recipe.name!r} reads one size: small_share must be 0; any size is read by {able}"
        )
    if recipe.fixed_length and recipe.aspect == "keep":
        raise ValueError(
            f"the recipe {recipe.name!r} reads one shape: aspect='keep' needs a CTC recipe, or say 'squeeze'"
        )
    return recipe
