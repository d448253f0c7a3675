"""The command line: `python -m helpers VERB ...`, a verb for each thing a person does; exit 0, 1 (problems named), 2 (refused).

Nothing heavy is imported before the verb and its arguments are known.
"""

import argparse
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from helpers.config import PROJECT, Config
from helpers.output import say, sentence
from mlruns_tools.fixed_paths import Refused

Options = argparse.Namespace
MODEL = "a model folder, runs:/RUN_ID/model of the record under CAPTCHA_WORK, or an ONNX file"
PROG = "captcha-ocr" if Path(sys.argv[0]).stem == "captcha-ocr" else "python -m helpers"
OWNER = "YOUR-KAGGLE-NAME"  # stands where no owner is given


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status, 0 or 1. Raises SystemExit, with status 2 and a sentence, for what cannot be used."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.verb(options)
    except ModuleNotFoundError as error:
        hint = f": pip install {error.name}" if error.name and "." not in error.name else ""
        parser.exit(2, f"{sentence(error)}{hint}\n")
    except (OSError, ValueError, Refused) as error:
        parser.exit(2, f"{sentence(error)}\n")


def audit(options: Options) -> int:
    """What a set holds and what is wrong with it; status 1 where there are errors."""
    from matplotlib.backend_bases import FigureCanvasBase  # these are heavy

    from helpers.data.collection import collect
    from helpers.plots.readings import contact_sheet

    for path in filter(None, (options.json, options.sheet)):  # before anything is done
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise ValueError(f"the report cannot be written: {path} is a folder, or none may be made there")
    if options.sheet and options.sheet.suffix[1:].lower() not in (known := FigureCanvasBase.filetypes):
        raise ValueError(f"the report cannot be written: {options.sheet} is none of {', '.join(known)}")
    found = collect(_config(options), rare=options.rare)
    print(found.audit)
    good = [index for index, picture in enumerate(found.pictures) if not picture.problem]
    try:
        if options.json:
            options.json.write_text(found.audit.to_json(), encoding="utf-8")
        if options.sheet and good:
            samples, images = ([found.samples[i] for i in good], [found.pictures[i].image for i in good])
            contact_sheet(samples, images).savefig(options.sheet)
    except OSError as error:
        say(f"the report cannot be written: {error}", sys.stderr)
        return 1
    return 1 if found.audit.errors else 0


def train(options: Options) -> int:
    """The training without the notebook: audited, trained, tested, recorded, packed."""
    config = _config(options)
    from helpers import experiment  # heavy
    from helpers.data.module import load_data

    data = load_data(config)
    print(data.audit, data, sep="\n")
    try:
        result = experiment.train(config, data)
    except (OSError, ValueError) as error:  # no refusal any more, which would be status 2: something was done
        raise RuntimeError("the training ended early; its record is in the work folder") from error
    print(result.score, result.calibration, sep="\n")
    experiment.pack_record(config)
    print(f"read with the model: {PROG} read IMAGE_OR_FOLDER --model {result.model}")
    return 0


def read(options: Options) -> int:
    """Results on standard output, everything else on standard error; status 1 where a picture was unreadable."""
    from helpers import rows  # numpy and Pillow, which a mistake in the arguments need not wait for
    from helpers.reading.reader import Reader, choose_model

    if isinstance(sys.stdout, io.TextIOWrapper):  # the same bytes on every system, as soon as there are any
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True)
    if options.score:
        from helpers.text.metrics import score  # reading alone needs no edit distances
    model = options.model or choose_model(Config())
    reader = Reader.load(model)
    if not options.model:
        say(f"read by {model}; --model names another", sys.stderr)
    words = None if options.words is None else rows.lines_of(options.words)
    constraint = reader.constraint(options.length, options.chars, options.pattern, words)
    samples, others = rows.samples_of(options, reader.case)
    for path in others:
        say(f"skipped {path}: not a picture by its suffix", sys.stderr)
    readings = reader.stream([sample.path for sample in samples], constraint, options.best)
    try:
        texts, truths, failed = rows.read_all(readings, samples, options)
    except BrokenPipeError:  # `| head` has seen enough; without this Python would say so once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if options.score and texts:
        print(score(texts, truths), file=sys.stderr)
    return 1 if failed or not texts else 0


def export(options: Options) -> int:
    """A model as one ONNX file."""
    from helpers.reading.export import save_onnx  # torch
    from helpers.reading.reader import Reader

    if options.model.endswith(".onnx"):
        raise ValueError(f"{options.model} is an ONNX file already: name a model folder or runs:/RUN_ID/model")
    path = save_onnx(Reader.load(options.model), options.to)
    say(f"{path} ({path.stat().st_size / 1e6:.1f} MB) reads random images as the model does")
    say(f"read with it: python -m helpers read IMAGE_OR_FOLDER --model {path}")
    return 0


def synthetic(options: Options) -> int:
    """Captchas as files; status 1 where only a part of them could be made."""
    from helpers.synthetic.captchas import KEYS, Synthetic, settings_of  # numpy, Pillow and fonts
    from helpers.synthetic.folder import make_captchas

    folder, started = options.folder, time.perf_counter()
    given = {key: vars(options)[key] for key in KEYS if vars(options).get(key) is not None}
    spec = Synthetic(**settings_of(given))
    existed, before = folder.exists(), len([*folder.glob("*.png")])
    try:
        with warnings.catch_warnings(action="ignore"):  # the last line says how many were missing
            make_captchas(folder, workers=options.workers, **asdict(spec))
    except OSError as error:
        if (folder.exists(), len([*folder.glob("*.png")])) == (existed, before):
            raise
        print(sentence(error), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped: the same command makes the rest", file=sys.stderr)
        sys.exit(130)
    seconds, made = time.perf_counter() - started, spec.count - before
    rate = f"{made} painted in {seconds:.1f} s, {made / seconds:.0f} images per second" if made else "all there before"
    say(f"{spec.count} captchas in {folder}, style {spec.style}, seed {spec.seed}: {rate}")
    return 0


def kaggle_build(options: Options) -> int:
    """What is uploaded to Kaggle."""
    from helpers.kaggle.build import build  # of no use to the other verbs

    for folder in build(options.owner, options.data, options.to, options.offline, options.wheels):
        print(folder, "-", ", ".join(sorted(path.name for path in folder.iterdir())))
    if options.owner == OWNER:
        print(f"before a push, build with --owner; the files name {OWNER}")
    return 0


def _config(options: Options) -> Config:
    """The settings that were given as options; a `CAPTCHA_...` variable wins over each, as everywhere."""
    names = {field.name for field in fields(Config)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    return Config.parse(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG, allow_abbrev=False, description="Captcha OCR: train, read, and look at captchas."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, does: Callable[[Options], int], about: str, example: str, to: object = verbs) -> Callable:
        epilog = f"example: {PROG} {example}"
        made = to.add_parser(name, help=about, description=about, epilog=epilog, allow_abbrev=False)
        made.set_defaults(verb=does)
        return made.add_argument

    option = verb(
        "audit",
        audit,
        "Say what a set of captchas holds and what is wrong with it.",
        "audit my-captchas --sheet sheet.png",
    )
    option("data", metavar="SOURCE", help="a folder, zip, table (csv, tsv) or list (txt), or synthetic:count=...")
    for setting in ("recipe", "label_pattern", "case", "charset", "file_column", "label_column", "aspect"):
        _setting(option, setting)
    option("--rare", type=int, default=10, help="name characters that occur less often; default: 10")
    option("--json", type=Path, metavar="FILE", help="write the whole report, every file by its name; default: not")
    option("--sheet", type=Path, metavar="FILE", help="write a contact sheet of captchas and texts; default: not")

    option = verb("train", train, "Train, test and record a reader.", "train my-captchas --recipe conv_ctc")
    option("data", metavar="SOURCE", nargs="?", help="as for audit; default: CAPTCHA_DATA, else synthetic captchas")
    for field in fields(Config):
        if field.name not in ("data", "model", "runs"):
            _setting(option, field.name)

    option = verb(
        "read", read, "Read captchas; CSV on standard output.", "read new-captchas --model work/model > read.csv"
    )
    option("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER", help="pictures, folders or zips, tables or lists")
    option("--model", help=f"{MODEL}; default: that of the last training, else the weights that come with the project")
    option("--length", help="of the texts, in characters: 5, or 4-6; default: any")
    option("--chars", help="the characters they consist of: 0123456789; default: all that the model knows")
    option("--pattern", help="characters, classes and counts: [A-Z][0-9]{3}; default: any")
    option("--words", type=Path, metavar="FILE", help="all valid texts, one per line, in UTF-8; default: any")
    option(
        "--accept", type=_share, metavar="THRESHOLD", help="a column accepted: 1 where as sure as this; default: none"
    )
    option("--best", type=_count, default=0, metavar="N", help="the N likeliest texts with probabilities; default: one")
    option("--json-lines", action="store_true", help="one JSON object per picture; default: CSV")
    option("--score", action="store_true", help="texts are known, by names or table: say how many were read right")
    option("--label-pattern", help="with --score: regex on the file-name stem whose group 1 is the text; default: all")
    option("--case", choices=("keep", "upper", "lower"), help="of the known texts; default: as in training")

    option = verb("export", export, "Write a model as one ONNX file.", "export work/model --to captcha.onnx")
    option("model", metavar="MODEL", help="a model folder, or runs:/RUN_ID/model of the record under CAPTCHA_WORK")
    option("--to", type=Path, default=Path("model.onnx"), metavar="FILE", help="default: model.onnx")

    example = "synthetic captchas --count 1000 --style wavy"
    option = verb("synthetic", synthetic, "Make captchas from nothing, <text>.png each.", example)
    option("folder", type=Path, metavar="FOLDER", help="a new or empty one, or one of the same settings")
    for key, said in SYNTHETIC_KEYS.items():
        option(f"--{key}", metavar=key.upper(), help=said)
    option("--workers", type=int, help="processes; default: by the machine")

    kaggle = verbs.add_parser("kaggle", help="Make what is uploaded to Kaggle.").add_subparsers(
        required=True, metavar="build"
    )
    about = "Make notebooks that need nothing beside them, and wheels for sessions without Internet."
    option = verb("build", kaggle_build, about, "kaggle build --owner YOUR-NAME --data OWNER/SLUG", kaggle)
    option(
        "--owner", default=os.environ.get("KAGGLE_USERNAME", OWNER), help="your name on Kaggle; default: %(default)s"
    )
    option("--data", nargs="+", default=[], metavar="OWNER/SLUG", help="data sets to attach; default: none")
    option("--to", type=Path, default=PROJECT / "build" / "kaggle", metavar="FOLDER", help="default: build/kaggle")
    option("--offline", action="store_true", help="Internet off, the wheels' data set attached; default: on")
    option("--no-wheels", dest="wheels", action="store_false", help="notebooks only, needs no network; default: both")
    return parser


SYNTHETIC_KEYS = {  # the keys of `synthetic:...` that suit files
    "count": "a whole number; default: 6000",
    "charset": "letters and digits, each once; default: digits and capitals without look-alikes",
    "length": "a number of characters, or 4-6; default: 5",
    "size": "WIDTHxHEIGHT in pixels, as in image editors; default: 150x40",
    "style": "classic, package, clean, wavy, colour or mixed; default: classic",
    "seed": "a whole number; default: 0",
    "often": "characters to draw once more for every time they stand here, such as O0O0; default: none",
}


def _setting(option: Callable, name: str) -> None:
    """An option for a field of `Config`, as text."""
    (field,) = (field for field in fields(Config) if field.name == name)
    default = "by the recipe or the data" if field.default is None else field.default
    option(f"--{name.replace('_', '-')}", metavar="VALUE", help=f"as CAPTCHA_{name.upper()}; default: {default}")


def _share(text: str) -> float:
    if not 0 <= float(text) <= 1:
        raise ValueError
    return float(text)


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
