"""Reading on one core: latency of one picture and pictures per second, in PyTorch and ONNX Runtime, beside other readers.

    CAPTCHA_RECIPE=conv_ctc CAPTCHA_DATA=FOLDER python notebooks/train_ctc.py
    python -m tests.benchmarks.reading --model work/model --data FOLDER

Every reader goes from the file to the text. `pip install onnx onnxscript onnxruntime ddddocr pytesseract` (and Tesseract
itself) adds the others; what is not installed is left out and named. Their exact match is beside their speed; that of the
model counts captchas that it was trained on, if FOLDER holds them.
"""

import argparse
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch

from helpers.pictures.opening import open_picture
from helpers.reading.export import save_onnx
from helpers.reading.reader import BATCH_SIZE, Reader
from helpers.sources.samples import find_samples
from helpers.text import metrics
from tests.benchmarks.common import processor, table

Read = Callable[[Sequence[Path]], list[str]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", type=Path, required=True)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--label-pattern")
    options.add_argument("--count", type=int, default=256, help="pictures")
    options = options.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before any library starts its threads
    torch.set_num_threads(1)
    reader = Reader.load(options.model)
    samples = find_samples(options.data, options.label_pattern, reader.case)
    samples = samples[:: max(1, len(samples) // options.count)][: options.count]
    paths, truths = [sample.path for sample in samples], [sample.text for sample in samples]
    charset = reader.spelling.charset
    makers: dict[str, tuple[tuple[str, ...], Callable[[], Read]]] = {
        f"{reader.recipe.name}, PyTorch": ((), lambda: lambda files: [r.text for r in reader.read(files)]),
        f"{reader.recipe.name}, ONNX Runtime": (("onnx", "onnxscript", "onnxruntime"), lambda: onnx_runtime(reader)),
        "ddddocr": (("ddddocr",), lambda: ddddocr(None)),
        "ddddocr, charset given": (("ddddocr",), lambda: ddddocr(charset)),
        "Tesseract, charset given": (("pytesseract",), lambda: tesseract(charset)),
    }
    print(f"{processor()}, one core, torch {torch.__version__}, {len(paths)} pictures of {options.data.name}")
    rows, rates = [], {}
    for name, (packages, make) in makers.items():
        absent = [package for package in packages if importlib.util.find_spec(package) is None]
        if absent or (name.startswith("Tesseract") and not shutil.which("tesseract")):
            print(f"{name}: left out, {', '.join(absent) or 'tesseract'} is not installed")
            continue
        read = make()
        files = paths[:32] if name.startswith("Tesseract") else paths
        [read([path]) for path in files[:8]]  # start-up
        times = []
        for path in files:
            started = time.perf_counter()
            read([path])
            times.append(1e3 * (time.perf_counter() - started))
        started, texts = time.perf_counter(), []
        for start in range(0, len(files), BATCH_SIZE):
            texts += read(files[start : start + BATCH_SIZE])
        rates[name] = len(files) / (time.perf_counter() - started)
        exact = metrics.exact_match(texts, truths[: len(files)])
        latency = (f"{median(times):.2f}", f"{np.quantile(times, 0.95):.2f}")
        rows.append((name, *latency, f"{rates[name]:.0f}", f"{100 * exact:.1f} % of {len(files)}"))
    slowest = rates.get("ddddocr", min(rates.values()))
    rows = [(*row[:4], f"{rates[row[0]] / slowest:.1f}", row[4]) for row in rows]
    base = "ddddocr" if "ddddocr" in rates else "slowest"
    header = ("reader", "one picture, ms (median)", "(95th percentile)", f"pictures/s at batch {BATCH_SIZE}")
    table((*header, f"{base} = 1", "exact match"), rows)


def onnx_runtime(reader: Reader) -> Read:
    """The same network in ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Reader.load(save_onnx(reader, Path(folder) / "model.onnx"), threads=1)
    return lambda files: [reading.text for reading in exported.read(files)]


def ddddocr(charset: str | None) -> Read:
    """https://pypi.org/project/ddddocr/, one picture at a time: it has no batches."""
    from ddddocr import DdddOcr

    engine = DdddOcr(show_ad=False)
    if charset:
        engine.set_ranges(charset)
    return lambda files: [engine.classification(file.read_bytes()) for file in files]


def tesseract(charset: str) -> Read:
    """https://github.com/tesseract-ocr/tesseract: a line of text over the charset, a process per picture."""
    import pytesseract

    settings = f"--psm 7 -c tessedit_char_whitelist={charset}"
    return lambda files: [pytesseract.image_to_string(open_picture(file), config=settings).strip() for file in files]


if __name__ == "__main__":
    main()
