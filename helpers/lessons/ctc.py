"""What the notebooks compute to explain themselves: CTC alignments by brute force, encodings, shapes stage by stage.

Nothing here takes part in a training; every function is as slow and plain as the idea it shows.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, product
from math import comb

import torch
from torch import Tensor, nn

from helpers.models.codec import Codec

BLANK = "-"  # how a blank is written in the paths of this file


def without_repeats(path: Sequence[str]) -> str:
    """Each run of one symbol as a single one: `AA-AB` is `A-AB`. A path may also be a list, one symbol per frame."""
    return "".join(symbol for symbol, _ in groupby(path))


def without_blanks(path: str) -> str:
    """What is left of a path when its blanks go: `AA-AB` is `AAAB`."""
    return path.replace(BLANK, "")


def alignments(text: str, frames: int) -> list[str]:
    """All paths of that many frames that spell the text: repeats collapse first, blanks are dropped after.

    By trying every path over the text's characters and the blank: for short texts and few frames.
    Source: Graves et al. 2006, section 3.1, https://dl.acm.org/doi/10.1145/1143844.1143891
    """
    symbols = [BLANK, *sorted(set(text))]
    paths = ("".join(path) for path in product(symbols, repeat=frames))
    return [path for path in paths if without_blanks(without_repeats(path)) == text]


def count_alignments(text: str, frames: int) -> int:
    """How many paths spell the text, without listing them: C(T + L - r, 2 L), with r equal neighbours among L characters.

    A path is settled by where each character begins and ends: the 2 L bounds among the frames.
    """
    repeats = sum(left == right for left, right in zip(text, text[1:], strict=False))
    return comb(frames + len(text) - repeats, 2 * len(text)) if frames >= len(text) + repeats else 0


def brute_force_probability(log_probabilities: Tensor, text: str, codec: Codec) -> float:
    """P(text) under log-probabilities (T, K) of a CTC codec: the sum over all alignments of the product over the frames."""
    classes = {symbol or BLANK: index for index, symbol in enumerate(spelled(codec))}
    paths = alignments(text, len(log_probabilities))
    ids = torch.tensor([[classes[symbol] for symbol in path] for path in paths])  # (paths, T)
    return log_probabilities.gather(1, ids.T).sum(0).exp().sum().item()


def spelled(codec: Codec) -> list[str]:
    """What each class id spells, as the codec itself reads it: `""` for a blank."""
    frames = 20 * torch.eye(codec.classes)[:, None]  # (B = K, T = 1, K): class k in the only frame of picture k
    return [reading.text for reading in codec.read(frames)]


def stages(network: nn.Module, images: Tensor) -> str:
    """A table of the network's stages: name, layer, parameters, and the shape of what comes out, by forward hooks.

    A stage is a direct child, or a child of a sequence or list. Where a stage is given another shape than the one before
    it gave, the network reshaped in between, and a line says so.
    """
    rows: list[tuple[str, str, str, str]] = [("images", "", "", _shape(images))]

    def seen(name: str, module: nn.Module, given: tuple[Tensor, ...], out: Tensor | tuple[Tensor, ...]) -> None:
        if not name.startswith("heads.") and _shape(given[0]) != rows[-1][3]:
            rows.append(("", "reshaped", "", _shape(given[0])))
        count = sum(parameter.numel() for parameter in module.parameters())
        rows.append((name, type(module).__name__, f"{count:,}", _shape(out if isinstance(out, Tensor) else out[0])))

    hooks = [
        module.register_forward_hook(lambda module, given, out, name=name: seen(name, module, given, out))
        for name, module in _stages_of(network)
    ]
    training = network.training
    try:
        with torch.inference_mode():
            logits = network.eval()(images)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    rows = [("stage", "layer", "parameters", "shape"), *rows, ("logits", "", "", _shape(logits))]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    line = f"{{:<{widths[0]}}}  {{:<{widths[1]}}}  {{:>{widths[2]}}}  {{}}"
    return "\n".join(line.format(*row) for row in rows)


def _stages_of(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_children():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            yield from ((f"{name}.{index}", stage) for index, stage in module.named_children())
        else:
            yield name, module


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
