"""What runs a network for a reader: torch. ONNX Runtime does so in `onnx.py`, without torch."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers.models.weights import load_network
from helpers.text.description import Description


class TorchEngine:
    """A network as readers use it: numpy in, numpy out."""

    def __init__(self, network: nn.Module, device: str = "cpu") -> None:
        self.network, self.device = network.to(device).eval(), device

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 (B, C, H, W) to logits (B, T, K)."""
        with torch.inference_mode():
            return self.network(torch.from_numpy(images).to(self.device)).float().cpu().numpy()


def load_engine(folder: Path, description: Description, device: str = "cpu") -> TorchEngine:
    """The network of a model folder, with its weights."""
    return TorchEngine(load_network(folder, description), device)
