"""Prepared pictures (`view.py`) to network input: the evaluation transform, and the train transform that augments."""

import albumentations as A
from albumentations.pytorch import ToTensorV2


def eval_transform(mean: tuple[float, ...], std: tuple[float, ...]) -> A.Compose:
    """uint8 (H, W, C) to normalised float (C, H, W), nothing random."""
    return A.Compose([A.Normalize(mean, std), ToTensorV2()])


def train_transform(mean: tuple[float, ...], std: tuple[float, ...], seed: int, strength: float = 1) -> A.Compose:
    """The evaluation transform after random geometry, contrast, noise and, of colour pictures, order of the channels.

    Light at `strength` 1. What a captcha says does not hang on its hues, so that a colour picture is as good as six.

    Add an augmentation as one more item; give it a form for batches in `augment.py`, or it is done image by image.
    """
    s = strength
    return A.Compose(
        [
            A.Affine(
                scale=(1 - 0.08 * s, 1 + 0.08 * s),
                translate_percent={"x": (-0.03 * s, 0.03 * s), "y": (-0.06 * s, 0.06 * s)},
                rotate=(-3 * s, 3 * s),
                shear={"x": (-6 * s, 6 * s), "y": (0, 0)},
                border_mode=1,  # the edge pixels go on
                p=0.8,
            ),
            A.RandomBrightnessContrast(0.2 * s, 0.2 * s, p=0.5),
            A.GaussNoise(std_range=(0.01 * s, 0.05 * s), p=0.3),
            *([A.ChannelShuffle(p=1)] if len(mean) == 3 else []),
            *eval_transform(mean, std),
        ],
        seed=seed,
    )
