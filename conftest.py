"""Makes the project importable for tests and for the kernels of notebooks, which run in tiny mode in a folder of their own."""

import os
import sys
import tempfile
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent)
sys.path.insert(0, ROOT)
for name in [name for name in os.environ if name.startswith(("CAPTCHA_", "MLFLOW_TRACKING_"))]:
    del os.environ[name]  # the tests' own settings only
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for tiny networks threads cost more than they bring
os.environ["CAPTCHA_TINY"] = "1"
os.environ["CAPTCHA_WORK"] = tempfile.mkdtemp(prefix="captcha-ocr-")


def pytest_collection_modifyitems(items: list) -> None:
    """The notebook that judges runs comes after those that train them."""
    items.sort(key=lambda item: "evaluate.ipynb" in item.nodeid)
