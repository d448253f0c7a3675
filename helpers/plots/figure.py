"""What all figures share: one that a notebook shows small, a picture drawn on the whole gray scale."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

MARKERS = "osv^Dx"  # tell runs apart without their colours


class NotebookFigure(Figure):
    """A figure that a notebook shows as a picture, without pyplot and its global state.

    With few colours and dots, so that an executed notebook stays small; the artifacts of a run have them all.
    """

    def _repr_png_(self) -> bytes:
        whole, small = io.BytesIO(), io.BytesIO()
        self.savefig(whole, format="png", dpi=72)
        Image.open(whole).convert("RGB").quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            small, "png"
        )
        return small.getvalue()


def show(axes: Axes, image: np.ndarray, name: str = "the image") -> None:
    """A picture, gray on the whole scale from 0 to 255; ValueError unless it is uint8 (H, W, C) with C 1 or 3."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"{name} is {image.dtype} {image.shape}: uint8 (H, W, 1) or (H, W, 3) is expected")
    axes.imshow(image.squeeze(2) if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255)
