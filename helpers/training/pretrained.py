"""A network to train: drawn anew, or begun with weights that were learned elsewhere."""

from pathlib import Path

import torch
from torch import nn

from helpers.config import PRETRAINED
from helpers.kaggle.inputs import attached_file
from helpers.models.codec import Codec
from helpers.models.recipes import Recipe
from helpers.pictures.files import read_bytes
from helpers.text.description import DESCRIPTION, WEIGHTS, Description


def make_network(recipe: Recipe, codec: Codec, pretrained: bool = False) -> nn.Module:
    """The recipe's network; `pretrained`: with ImageNet's weights (resnet18), else those of PRETRAINED."""
    network = recipe.network(codec, pretrained)
    if pretrained and not recipe.fixed_length:
        begin_with_pretrained(network, codec, recipe)
    return network


def pretrained_files(recipe: str) -> tuple[Path, Path]:
    """(description, weights) of the project's own, or as Kaggle's data set of wheels brings them. Raises ValueError."""
    folder = PRETRAINED / recipe
    if folder.is_dir():
        return folder / DESCRIPTION, folder / WEIGHTS
    if described := attached_file(f"{recipe}-{DESCRIPTION}"):
        return described, described.with_name(f"{recipe}-{WEIGHTS}")
    there = ", ".join(sorted(path.name for path in PRETRAINED.glob("*/"))) or "none: copy the project's there"
    raise ValueError(
        f"the recipe {recipe!r} has no pretrained weights: leave pretrained off. In {PRETRAINED} are {there};"
        " on Kaggle attach the data set of wheels, which brings them"
    )


def begin_with_pretrained(network: nn.Module, codec: Codec, recipe: Recipe) -> None:
    """Puts the recipe's pretrained weights into its network, those of the head character by character.

    Characters that they do not know keep the weights they have, which is said. Raises ValueError where there are none.
    """
    described, weights = pretrained_files(recipe.name)
    description = Description.parse(read_bytes(described).decode(), described)
    own, theirs = codec.shared_classes(recipe.codec(description.charset, description.text_length))
    known = torch.load(weights, map_location="cpu", weights_only=True)
    for name, tensor in network.state_dict().items():
        if name.startswith("head."):
            tensor[own] = known[name][theirs]
        else:
            tensor.copy_(known[name])
    if new := sorted(set(codec.charset) - set(description.charset)):
        print(f"{new} stand in no pretrained weights: they are learned from nothing")
