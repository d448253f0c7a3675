"""A trained model as one ONNX file, which holds all that is needed to read with it, and ONNX Runtime as a reader's engine.

The size of a batch is free, and for CTC recipes the width of the images, in pixels. The export needs torch, onnx and
onnxscript; reading needs ONNX Runtime, numpy and Pillow.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from helpers.text.description import Description

METADATA = "captcha_ocr"  # the key under which the file holds its Description as JSON
THREADS = 4  # at most, where none are named: networks this small gain nothing from more


class OnnxEngine:
    """An ONNX file as readers use it, on the CPU: float32 (B, C, H, W) in, logits (B, T, K) out.

    `threads` are those of ONNX Runtime; None: as many as this process may use, and 4 at most. Raises ValueError for a file
    that ONNX Runtime cannot load.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        require("onnxruntime")
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads or min(THREADS, usable)
        try:
            self.session = onnxruntime.InferenceSession(path.read_bytes(), settings, ["CPUExecutionProvider"])
        except (errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument, errors.Fail) as error:
            raise ValueError(f"{path} is no ONNX file that can be read: {error}") from None
        self.input = self.session.get_inputs()[0].name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.input: images})[0]

    @property
    def metadata(self) -> dict[str, str]:
        return self.session.get_modelmeta().custom_metadata_map


def load_onnx(path: Path, threads: int | None = None) -> tuple[OnnxEngine, Description]:
    """What a reader of the file is made of. Raises FileNotFoundError, or ValueError for a file that is none of ours."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: `python -m helpers export MODEL --to {path.name}` makes one")
    engine = OnnxEngine(path, threads)
    if METADATA not in engine.metadata:
        raise ValueError(f"{path} was not written by `python -m helpers export`: it does not say what its logits spell")
    return engine, Description.parse(engine.metadata[METADATA], path)


def require(*packages: str) -> None:
    """Raises ModuleNotFoundError that says how to install what lacks."""
    if lacking := [package for package in packages if find_spec(package) is None]:
        raise ModuleNotFoundError(f"this needs {' and '.join(lacking)}: pip install {' '.join(lacking)}")
