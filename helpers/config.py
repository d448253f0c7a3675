"""The settings of one training: defaults, then keywords, then `CAPTCHA_<FIELD>` environment variables, in rising order."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

PREFIX = "CAPTCHA_"
SYNTHETIC = "synthetic:"  # how a description of captchas that are made in memory begins
PROJECT = Path(__file__).resolve().parent.parent
PRETRAINED = PROJECT / "assets" / "pretrained"  # a model folder each for recipes that can begin with its weights
KAGGLE_WORK = Path("/kaggle/working")


def on_kaggle() -> bool:
    """True inside a Kaggle session, interactive or batch."""
    return "KAGGLE_KERNEL_RUN_TYPE" in os.environ and KAGGLE_WORK.is_dir()


@dataclass(frozen=True)
class Config:
    """Every setting of a training. `None` means: what the recipe says, or what is found.

    The environment wins over keywords, so that a notebook can be steered from outside without an edit. Raises ValueError
    for an unknown `CAPTCHA_...` variable or a value that cannot be used.
    """

    recipe: str = "cnn_gru_ctc"  # a name in helpers.models.recipes.RECIPES
    data: Path | str | None = None  # folder, zip, table or list of captchas, or "synthetic:..."; None: what is attached
    work: Path | None = None  # output folder; None: /kaggle/working on Kaggle, else work/ in the project
    experiment: str = "captcha-ocr"  # name of the MLflow experiment
    seed: int = 0
    epochs: int | None = None  # passes over the training images; None: enough for the recipe's number of steps
    batch_size: int | None = None  # images per step
    learning_rate: float | None = None  # peak of the one-cycle schedule
    warmup_share: float | None = None  # of all steps, in [0, 1): how long the codec's warm-up loss takes part
    small_share: float | None = None  # of all steps, in [0, 1): how long the first pictures are two thirds as large
    patience: int = 15  # epochs without a better validation result before training stops; at least a third of all
    image_size: tuple[int, int] | None = None  # (height, width), pixels: "40x150" in the environment
    aspect: str = "auto"  # "squeeze" pictures to image_size, "keep" their shape, "auto": squeeze where all have one
    crop: bool = True  # cut margins in which the training pictures have no strokes
    charset: str | None = None  # None: the characters of the training texts
    case: str = "keep"  # "keep", "upper" or "lower" case of the texts
    label_pattern: str | None = None  # regex on the file-name stem whose group 1 is the text; None: the whole stem
    file_column: str | None = None  # of a table; None: file, filename, image or path
    label_column: str | None = None  # of a table; None: label or text
    on_bad: str = "error"  # "error" or "skip" files that cannot be used
    cache: bool = True  # keep decoded pictures on disk for the next run
    val_share: float = 0.1  # of the texts, in (0, 1)
    test_share: float = 0.1  # of the texts, in (0, 1)
    folds: int | None = None  # of a cross-validation; None: one split by val_share and test_share
    fold: int = 0  # which fold is tested, from 0
    augment: bool = True
    pretrained: bool = False  # begin with weights from ImageNet (resnet18) or from synthetic captchas (conv_ctc)
    device: str = "auto"  # "auto", "cpu" or "cuda"
    precision: str = "auto"  # "auto" or a precision of Lightning's Trainer
    devices: int | None = None  # processes that train; None: one in a notebook, else one per GPU
    max_hours: float | None = None  # of training, which then ends and is tested; None: 11 on Kaggle, else no limit
    resume: str = "auto"  # go on with an interrupted training of the same settings and data; "off": begin anew
    workers: int | None = None  # loader processes; None: by the machine
    synthetic_count: int = 6000  # images of the default data set
    tiny: bool = False  # a smaller configuration of the same run: seconds instead of minutes
    model: str | None = None  # for reading and evaluation: a model folder or runs:/ID/model; None: the best run
    runs: str | None = (
        None  # to compare: ids or names, with commas between; None: the best, and others of its test side
    )

    def __post_init__(self) -> None:
        given = environment(os.environ)
        if given.get("tiny", self.tiny):
            given = TINY | given
        for name, value in given.items():
            object.__setattr__(self, name, value)
        work = self.work or (KAGGLE_WORK if on_kaggle() else PROJECT / "work")
        object.__setattr__(self, "work", Path(work).expanduser().absolute())
        if self.data is not None:
            object.__setattr__(self, "data", as_source(self.data))
        self._check()

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> "Config":
        """From fields as text, in the form of their variables, such as {"image_size": "40x150"}."""
        return cls(**environment({PREFIX + name.upper(): str(text) for name, text in texts.items()}))

    def __str__(self) -> str:
        """The fields that differ from their defaults, and where the output goes."""
        given = [f for f in fields(self) if f.name == "work" or getattr(self, f.name) != f.default]
        return "Config(" + ", ".join(f"{f.name}={str(getattr(self, f.name))!r}" for f in given) + ")"

    def _check(self) -> None:
        rules = {
            "on_bad": (self.on_bad in ("error", "skip"), "'error' or 'skip'"),
            "aspect": (self.aspect in ("auto", "keep", "squeeze"), "'auto', 'keep' or 'squeeze'"),
            "case": (self.case in ("keep", "upper", "lower"), "'keep', 'upper' or 'lower'"),
            "folds": (self.folds is None or self.folds >= 2, "a whole number of at least 2"),
            "fold": (0 <= self.fold < (self.folds or 1), "a whole number from 0 and below folds"),
            "device": (self.device in ("auto", "cpu", "cuda"), "'auto', 'cpu' or 'cuda'"),
            "val_share": (0 < self.val_share < 1, "a share between 0 and 1"),
            "test_share": (0 < self.test_share < 1 - self.val_share, "a share between 0 and 1 - val_share"),
            "epochs": (self.epochs is None or self.epochs > 0, "a whole number above 0"),
            "batch_size": (self.batch_size is None or self.batch_size > 0, "a whole number above 0"),
            "image_size": (self.image_size is None or min(self.image_size) > 0, "(height, width) in pixels"),
            "learning_rate": (self.learning_rate is None or self.learning_rate > 0, "a number above 0"),
            "warmup_share": (self.warmup_share is None or 0 <= self.warmup_share < 1, "a share in [0, 1)"),
            "small_share": (self.small_share is None or 0 <= self.small_share < 1, "a share in [0, 1)"),
            "devices": (self.devices is None or self.devices > 0, "a whole number above 0"),
            "max_hours": (self.max_hours is None or self.max_hours > 0, "a number of hours above 0"),
            "resume": (self.resume in ("auto", "off"), "'auto' or 'off'"),
            "synthetic_count": (self.synthetic_count >= 10, "a whole number of at least 10"),
        }
        for name, (right, valid) in rules.items():
            if not right:
                raise ValueError(f"{name}={getattr(self, name)!r} cannot be used: it must be {valid}")


def as_source(data: str | Path) -> Path | str:
    """Where captchas lie, as an absolute path; a text that begins with `synthetic:` says how they are made instead."""
    return str(data) if str(data).startswith(SYNTHETIC) else Path(data).expanduser().absolute()


# what `tiny=True` changes; only a variable of the environment is stronger
TINY = {"epochs": 1, "batch_size": 16, "synthetic_count": 60, "device": "cpu", "workers": 0}


def environment(variables: Mapping[str, str]) -> dict[str, object]:
    """The fields that `CAPTCHA_<FIELD>` variables set, each in the field's own type."""
    types = {field.name: str(field.type) for field in fields(Config)}
    given: dict[str, object] = {}
    for variable, text in variables.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable[len(PREFIX) :].lower()
        if name not in types:
            valid = ", ".join(PREFIX + field.upper() for field in types)
            raise ValueError(f"{variable} is not a setting; the settings are {valid}")
        try:
            given[name] = _parse(types[name], text)
        except ValueError as error:
            raise ValueError(f"{variable}={text!r} cannot be used: {error}") from None
    return given


def _parse(kind: str, text: str) -> object:
    if "None" in kind and text in ("", "none", "None"):
        return None
    if "bool" in kind:
        values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
        if text.lower() not in values:
            raise ValueError("1 or 0 is expected")
        return values[text.lower()]
    if "tuple" in kind:
        height, x, width = text.lower().partition("x")
        if not (x and height.isdigit() and width.isdigit()):
            raise ValueError("HEIGHTxWIDTH in pixels is expected, such as 40x150")
        return int(height), int(width)
    for name, convert in (("Path | str", as_source), ("Path", Path), ("int", int), ("float", float)):
        if name in kind:
            return convert(text)
    return text
