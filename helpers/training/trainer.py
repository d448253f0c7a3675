"""Data and a configuration in, the weights of the best epoch out: device, precision and Lightning's Trainer chosen."""

import builtins
import ctypes
import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from helpers.config import Config, on_kaggle
from helpers.data.module import CaptchaData
from helpers.output import shown
from helpers.training.callbacks import EpochReport, Limits, RunningAverage
from helpers.training.checkpoints import BEST, Checkpoints, ready
from helpers.training.module import LitOCR
from helpers.training.pretrained import make_network

KAGGLE_HOURS = 11  # of training, of the 12 that a session may last


def choose_device(config: Config) -> str:
    """'cuda' where a kernel really runs there, else 'cpu'. Apple's MPS has no CTC loss and is not used."""
    if config.device != "auto":
        return config.device
    if not torch.cuda.is_available():
        return "cpu"
    try:
        (torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")).sum().item()
    except RuntimeError as error:  # a GPU older than this torch has kernels for, such as a P100
        warnings.warn(f"{torch.cuda.get_device_name()} cannot run this torch ({error}): using the CPU", stacklevel=2)
        return "cpu"
    return "cuda"


def choose_precision(config: Config, device: str) -> str:
    """Mixed precision where the device computes it natively, else float32."""
    if config.precision != "auto":
        return config.precision
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16-mixed" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "32-true"


def choose_devices(config: Config, device: str) -> int:
    """How many processes train, on a machine: one in a notebook, which may not start others, else one per GPU."""
    if config.devices is not None:
        return config.devices
    return torch.cuda.device_count() if device == "cuda" and not hasattr(builtins, "__IPYTHON__") else 1


def is_helper() -> bool:
    """Whether this process only helps another one to train, as Lightning or torchrun started it."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) > 0


def make_trainer(config: Config, epochs: int, report: EpochReport, owner: str = "") -> pl.Trainer:
    """A Trainer whose checkpoints go to `work/checkpoints`. The progress bar shows only where a person watches."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # its tips would drown the epoch lines
    warnings.filterwarnings(
        "ignore",
        message=".*LeafSpec.*|.*does not have many workers.*|.*sync_dist=True.*",
    )
    device = choose_device(config)
    devices = choose_devices(config, device)
    hosts = int(os.environ.get("WORLD_SIZE", devices)) // int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    folder = config.work / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    hours = KAGGLE_HOURS if config.max_hours is None and on_kaggle() else config.max_hours
    return pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=devices,
        num_nodes=hosts,
        strategy="ddp" if devices * hosts > 1 else "auto",
        use_distributed_sampler=False,  # each process takes its own batches
        precision=choose_precision(config, device),
        max_epochs=epochs,
        gradient_clip_val=5.0,
        callbacks=[
            EarlyStopping("val_rank", patience=max(config.patience, epochs // 3)),  # the schedule ends low, and best
            RunningAverage(device),
            Limits(hours, config.work),
            report,
            Checkpoints(folder, owner),
        ],
        logger=False,
        enable_progress_bar=sys.stdout.isatty(),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic="warn",
        log_every_n_steps=1,
    )


@dataclass(frozen=True)
class Fitted:
    """What `fit` leaves: the module with the weights kept, a row of metrics per epoch, and the row of the epoch kept."""

    module: LitOCR
    history: list[dict[str, float]]
    best: dict[str, float]
    cut_short: bool  # by time or disk; to be gone on with


def keep_memory() -> None:
    """Lets glibc keep freed activations, which by default go back to the system and are fetched anew at every step.

    Process-wide; costs nothing but memory that would be in use again at once, and saves up to a third of a training on
    the CPU (tests/benchmarks/LOG.md). Does nothing on other systems. Source: mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):
        return
    mallopt(-4, 0)  # M_MMAP_MAX: no block comes from mmap
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes: what is free at the end stays


def build(config: Config, data: CaptchaData) -> LitOCR:
    """The recipe's network and codec for the data, checked against every text. Raises ValueError that names the file."""
    recipe = data.recipe
    pl.seed_everything(config.seed, verbose=False)
    codec = recipe.codec(data.charset, data.text_length)
    network = make_network(recipe, codec, config.pretrained)
    widths = {image.shape[1] for dataset in data.sides.values() for image in dataset.images}  # pixels
    steps = recipe.steps_for(network, widths)
    for side, dataset in data.sides.items():
        unknown = sorted(set("".join(dataset.texts)) - set(codec.charset))
        for sample, image in zip(dataset.samples, dataset.images, strict=True):
            try:
                codec.check(sample.text, steps[image.shape[1]])
            except ValueError as error:
                raise ValueError(f"{shown(sample.path.name)}: {error}") from None
        if unknown and side == "train":
            raise ValueError(f"the training texts hold {unknown}, which the charset {codec.charset!r} does not")
        if unknown:
            print(f"{unknown} stand in {side} texts but in no training text: such captchas can only be read wrong")
    return LitOCR(network.train(), codec, recipe.learning_rate, recipe.warmup_share, recipe.small_share)


def fit(
    config: Config,
    data: CaptchaData,
    record: Callable[[dict[str, float]], None] | None = None,
    resume: Path | None = None,
    owner: str = "",
) -> Fitted:
    """Trains and returns the weights of the epoch to keep (see `LitOCR`); checkpoints go to `work/checkpoints`.

    `resume` is a `last.ckpt` to go on from, if it is whole and of the training with the id `owner`. Where several
    processes train, only the first returns; the others end here. Raises Diverged where the loss is no number any more.
    """
    keep_memory()
    module = build(config, data)
    report = EpochReport(record)
    trainer = make_trainer(config, data.recipe.epochs_for(len(data.train)), report, owner)
    if resume and not is_helper():  # a helper starts when this has been looked at
        resume = ready(resume.parent, module, owner)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    if not trainer.is_global_zero:
        sys.exit()
    best = torch.load(config.work / "checkpoints" / BEST, map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    (limits,) = (callback for callback in trainer.callbacks if isinstance(callback, Limits))
    return Fitted(module.cpu(), report.history, report.history[best["epoch"]], limits.cut_short)
