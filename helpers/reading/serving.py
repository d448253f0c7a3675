"""A model folder as a model that MLflow loads and serves: pictures as base64 in, texts with confidence out; no pickles.

    mlflow models serve -m models:/captcha-ocr@champion --env-manager local -h 127.0.0.1 -p 5001

`make_servable` puts MLflow's description beside the weights, with a copy of the modules that read; a service then needs
neither the project nor its training packages. `Service` is what answers.
"""

import base64
import logging
import shutil
import sys
import tempfile
import threading
import traceback
import warnings
from functools import partial
from pathlib import Path
from shutil import ignore_patterns
from types import ModuleType
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import FLAVOR_NAME, PythonModel, PythonModelContext
from mlflow.types import ColSpec, Schema

from helpers.config import PROJECT
from helpers.pictures.opening import BEGINNING
from helpers.reading.gate import gate_connections
from helpers.reading.reader import Reader
from helpers.text.description import DESCRIPTION, WEIGHTS

READING = ("__init__.py", "config.py", "output.py", "models", "pictures", "reading", "text")  # what travels
REQUIRED = ["torch>=2.10", "torchvision>=0.25", "mlflow==3.17.2", "pillow>=11.3", "simplejpeg>=1.8", "tqdm>=4.66"]
AT_ONCE = 2  # requests that are read; a picture of MAX_PIXELS takes 300 MB while it is decoded
# what MLflow raises beside its own, for odd requests
MISREAD = (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError)
SERVER = "mlflow.pyfunc.scoring_server"
FORM = 'a JSON object such as {"dataframe_records": [{"image": "BASE64 OF A PICTURE FILE"}]}'
MODEL_CODE = """from mlflow.models import set_model

from helpers.reading.serving import Service

set_model(Service())
"""
SIGNATURE = ModelSignature(
    # a picture file, base64; not required, so that where it is missing the answer is ours
    inputs=Schema([ColSpec("string", "image", required=False)]),
    outputs=Schema([ColSpec("string", "text"), ColSpec("double", "confidence")]),
)


class Refusal(MlflowException):
    """One sentence for the person who asked, status 400 unless another error code is given.

    It stays that sentence where MLflow would write the request before it.
    """

    def __init__(self, sentence: str, code: int = INVALID_PARAMETER_VALUE) -> None:
        super().__init__(sentence, code)

    @property
    def message(self) -> str:
        return self.args[0]

    @message.setter
    def message(self, _: str) -> None:
        pass


class Service(PythonModel):
    """Answers a table with a column `image` by one with the columns `text` and `confidence`, row by row."""

    def load_context(self, context: PythonModelContext) -> None:
        self.reader = Reader.load(context.artifacts["model"])
        self.turn = threading.Semaphore(AT_ONCE)
        if f"{SERVER}.app" in sys.modules:
            answer_in_sentences(sys.modules[SERVER])
            gate_connections()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        """Raises Refusal that names the image by its place, from 0; then none of the request is answered."""
        if "image" not in model_input or model_input.empty:
            raise Refusal(f"there is no image to read: send {FORM}")
        contents = [_decoded(text, index) for index, text in enumerate(model_input["image"])]
        try:
            with self.turn:
                readings = self.reader.read(contents)
        except RuntimeError as error:
            traceback.print_exception(error)
            raise Refusal("the model failed; the log of the service says why", INTERNAL_ERROR) from error
        for index, reading in enumerate(readings):
            if reading.error:
                raise Refusal(f"image {index} cannot be read: {reading.error}")
        return pd.DataFrame({"text": [r.text for r in readings], "confidence": [r.confidence for r in readings]})


def _decoded(text: object, index: int) -> bytes:
    """The content of a picture file."""
    if not isinstance(text, str):
        raise Refusal(f"image {index} is no text but {type(text).__name__}: base64 of a picture file is expected")
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise Refusal(f"image {index} is no base64: {error}") from error
    if not BEGINNING.match(content):
        raise Refusal(f"image {index} is no picture: PNG, JPEG, GIF, BMP, TIFF and WebP are read")
    return content


def answer_in_sentences(server: ModuleType) -> None:
    """Has MLflow's scoring server say what was wrong with a request in one sentence, status 400.

    By itself it repeats the whole request, adds its stack trace where the request is CSV or Parquet, and answers 500
    where the content type is missing or the JSON has another shape than it thinks of (MLflow 3.17). The log gets the
    kind of the error and where it was raised, nothing of the request.
    """
    logging.getLogger("mlflow.models.utils").setLevel(logging.ERROR)  # its warnings repeat the names of columns
    plain = server.invocations

    def invocations(data: bytes, content_type: str | None, *model: Any) -> object:  # noqa: ANN401
        try:
            return plain(data, content_type or "", *model)
        except Refusal:
            raise
        except (MlflowException, *MISREAD) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]  # what it says would quote the request
            print(
                f"a request cannot be read: {type(error).__name__} at {where.filename}:{where.lineno}", file=sys.stderr
            )
            raise Refusal(f"the request cannot be read: send {FORM}") from error

    server.invocations = invocations


def make_servable(folder: Path) -> Path:
    """Makes a model folder one that MLflow loads and serves by itself: its description and the code lie beside the weights."""
    with tempfile.TemporaryDirectory() as scratch:
        code, made = Path(scratch, "helpers"), Path(scratch, "model")
        code.mkdir()
        for name in READING:
            copy = (
                shutil.copy
                if name.endswith(".py")
                else partial(shutil.copytree, ignore=ignore_patterns("__pycache__", "*.md"))
            )
            copy(PROJECT / "helpers" / name, code / name)
        (entry := Path(scratch, "serve.py")).write_text(MODEL_CODE, encoding="utf-8")
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that no example of the input is given
            mlflow.pyfunc.save_model(
                made, python_model=str(entry), code_paths=[str(code)], pip_requirements=REQUIRED, signature=SIGNATURE
            )
        description = Model.load(made)
        flavor = description.flavors[FLAVOR_NAME]
        flavor["artifacts"] = {"model": {"path": ".", "uri": "."}}  # the weights as they lie there, not a copy
        flavor["model_code_path"] = entry.name  # not where it was written
        description.model_size_bytes = sum((folder / name).stat().st_size for name in (WEIGHTS, DESCRIPTION))
        description.save(made / MLMODEL_FILE_NAME)
        shutil.rmtree(folder / "code", ignore_errors=True)
        shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder
