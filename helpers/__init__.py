"""Captcha OCR: a folder of labelled captchas in, a trained, tested and tracked reader out.

The wings, in the order of the data flow: pictures, text, synthetic, models, record, sources, data, reading, evaluation, plots,
training; `experiment` walks through them. The names in DOOR can be had from here, loaded when they are used.
"""

import os
import warnings
from importlib import import_module

# all three look a host up or write bars otherwise, the first at its import, which is why these stand here
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# tqdm's, which mlflow imports: without ipywidgets it draws plain bars, and there is nothing to update
warnings.filterwarnings("ignore", message="IProgress not found")

DOOR = {  # {name: where it is defined}
    "Config": "helpers.config",
    "load_data": "helpers.data.module",
    "Reader": "helpers.reading.reader",
    "judge": "helpers.evaluation.trial",
    "compare": "helpers.evaluation.comparison",
    "score": "helpers.text.metrics",
    "train": "helpers.experiment",
    "pack_record": "helpers.experiment",
}
__all__ = [*DOOR]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name in DOOR:
        return getattr(import_module(DOOR[name]), name)
    raise AttributeError(f"module 'helpers' has no {name!r}; it has {', '.join(DOOR)}")
