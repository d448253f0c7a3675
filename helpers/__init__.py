"""Captcha OCR: a folder of labelled captchas in, a trained, tested and tracked reader out.

Read the files in the order of the data flow: config, pictures, data, transforms, networks, codec, recipes, training, tracking,
reader, metrics, plots.
"""

import os
import warnings

# both look a host up otherwise, the first at its import, which is why these stand here
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# tqdm's, which mlflow imports: without ipywidgets it draws plain bars, and there is nothing to update
warnings.filterwarnings("ignore", message="IProgress not found")
