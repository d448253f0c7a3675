"""A trained network on disk: `model_weights.pth`, plain tensors, and `model.json`, all that is needed to build it again."""

import platform
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from helpers.models.codec import Codec
from helpers.models.recipes import RECIPES, Recipe
from helpers.pictures.view import WHOLE
from helpers.text.description import DESCRIPTION, WEIGHTS, Description


def describe(codec: Codec, recipe: Recipe, case: str = "keep", temperature: float = 1.0) -> Description:
    """What a reader must know of a network that was trained for the codec with the recipe."""
    return Description(
        recipe=recipe.name,
        charset=codec.charset,
        text_length=codec.length,
        image_size=recipe.image_size,
        mean=recipe.mean,
        std=recipe.std,
        case=case,
        aspect=recipe.aspect,
        crop=recipe.crop or WHOLE,
        codec="positions" if recipe.fixed_length else "ctc",
        temperature=temperature,
        versions={"python": platform.python_version(), "torch": str(torch.__version__)},
    )


def save_model(
    folder: Path, network: nn.Module, codec: Codec, recipe: Recipe, case: str = "keep", temperature: float = 1.0
) -> Path:
    """Writes the weights as plain tensors and, as JSON, all that is needed to build the same reader again."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    torch.save(weights, folder / WEIGHTS)
    (folder / DESCRIPTION).write_text(str(describe(codec, recipe, case, temperature)), encoding="utf-8")
    return folder


def recipe_of(description: Description) -> Recipe:
    """The recipe as it was trained. Raises ValueError where this project does not know it."""
    if description.recipe not in RECIPES:
        raise ValueError(f"the model was made by the recipe {description.recipe!r}; known are {[*RECIPES]}")
    names = ("image_size", "mean", "std", "aspect", "crop")
    return replace(RECIPES[description.recipe], fit_width=False, **{n: getattr(description, n) for n in names})


def load_network(folder: Path, description: Description) -> nn.Module:
    """The network of a model folder, with its weights."""
    recipe = recipe_of(description)
    network = recipe.network(recipe.codec(description.charset, description.text_length))
    network.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
    return network
