"""What the benchmarks share: settings on the command line, captchas cut as they need them, and tables."""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from helpers.config import Config
from helpers.data.collection import Collection
from helpers.data.module import CaptchaData
from helpers.data.splits import split_folds
from helpers.models.recipes import RECIPES
from helpers.training.trainer import choose_device, choose_precision

# settings of Config that every benchmark takes, with what argparse makes of them
SETTINGS = {
    "label_pattern": str,
    "case": str,
    "charset": str,
    "epochs": int,
    "batch_size": int,
    "learning_rate": float,
    "val_share": float,
    "test_share": float,
    "device": str,
}


def parser(description: str, recipes: Sequence[str] = tuple(RECIPES), data: bool = True) -> argparse.ArgumentParser:
    """The options that all have; `options.settings` of `parse` are for Config."""
    made = argparse.ArgumentParser(description=description)
    if data:
        made.add_argument("--data", required=True, help="a folder, zip, table, list, or synthetic:...")
    made.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(recipes))
    made.add_argument("--threads", type=int, default=1, help="of the CPU")
    for name, kind in SETTINGS.items():
        made.add_argument("--" + name.replace("_", "-"), type=kind, help=f"Config({name}=...)")
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; sets the number of threads and says on what the figures are taken."""
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    options.work = tempfile.mkdtemp(prefix="captcha-benchmark-")
    options.settings = given | {"data": getattr(options, "data", None), "work": Path(options.work)}
    config = Config(**options.settings)
    device = choose_device(config)
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    print(
        f"{name}, {os.cpu_count()} cores, {options.threads} threads used; {choose_precision(config, device)},"
        f" Python {platform.python_version()}, torch {torch.__version__}\n{' '.join(sys.argv[1:])}",
        flush=True,
    )
    return options


def processor() -> str:
    """The CPU's name where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")


def held_out(found: Collection, config: Config, fold: int, folds: int, count: int | None = None) -> CaptchaData:
    """One fold held out as `val` and `test`, all others to train on, or the first `count` of them in an order by seed."""
    samples, images, _ = found.usable("error")
    sides = split_folds([sample.text for sample in samples], config.seed, folds, fold)
    kept = [index for index, side in enumerate(sides) if side == "test"]
    train = [index for index, side in enumerate(sides) if side != "test"]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(config.seed)).tolist()
    train = [train[place] for place in order[:count]]
    chosen = [*train, *kept, *kept]
    names = ["train"] * len(train) + ["val"] * len(kept) + ["test"] * len(kept)
    return CaptchaData([samples[i] for i in chosen], [images[i] for i in chosen], names, config, found.recipe)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table as README and log show it."""
    print("\n| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    sys.stdout.flush()
