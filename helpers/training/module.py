"""Training: one LightningModule for every network and codec, one call that goes from data to a tracked, tested model."""

import builtins
import ctypes
import logging
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, WeightAveraging
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from helpers.config import Config, on_kaggle
from helpers.data.module import CaptchaData
from helpers.models.codec import Codec
from helpers.models.recipes import small_size
from helpers.output import shown
from helpers.text import metrics
from helpers.text.spelling import Reading
from helpers.training.checkpoints import BEST, Checkpoints, check_finite, is_partial, ready

METRICS = ("train_loss", "val_loss", "val_exact", "val_cer")  # one value per epoch, in the order they are shown
AVERAGE = 0.98  # decay per step of the running average of the weights, at most
clock = time.monotonic  # seconds, by which time is limited
SPARE = 2**26  # bytes, of the disk, beside twice what checkpoints and record take
KAGGLE_HOURS = 11  # of training, of the 12 that a session may last
PLATEAU_SHARE, PLATEAU_EPOCHS = 0.95, 3  # of validation images the network says nothing, for so many epochs on end


class LitOCR(pl.LightningModule):
    """A network and the codec of its logits, trained with AdamW and a one-cycle schedule.

    Batches are (images (B, C, H, W), B texts). Over the first `warmup_share` of all steps the loss passes from the
    codec's warm-up loss to its own; over the first `small_share` the images are shrunk, which costs less, and read so in
    validation too (progressive resizing). The epoch to keep, that of the lowest `val_rank`, is the latest whose
    validation CER is within one standard error of the lowest: the schedule ends at its best, and small validation sets
    are noisy. An epoch of shrunk images ranks below all others, for what is kept reads whole ones.
    Source of the schedule: Smith and Topin 2017, "Super-Convergence", https://arxiv.org/abs/1708.07120; of the resizing:
    Tan and Le 2021, "EfficientNetV2", https://arxiv.org/abs/2104.00298
    """

    def __init__(
        self,
        network: nn.Module,
        codec: Codec,
        learning_rate: float,
        warmup_share: float = 0,
        small_share: float = 0,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.codec = codec
        self.learning_rate = learning_rate
        self.warmup_share, self.small_share = warmup_share, small_share
        self.truths: list[str] = []
        self.readings: list[Reading] = []
        self.losses: list[float] = []
        self.silent = 0  # images of which the network says nothing
        self.lowest = self.allowed = float("inf")  # validation CER of the best epoch, and of one as good as it

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.to(memory_format=torch.channels_last))  # (B, T, K)

    def training_step(self, batch: tuple[Tensor, list[str]], _: int) -> Tensor:
        images, texts = batch
        logits, weight = self(self.sized(images)), self.warmup_weight
        loss = (1 - weight) * self.codec.loss(logits, texts)
        if weight:
            loss = loss + weight * self.codec.warmup_loss(logits, texts)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(texts))
        return loss

    def sized(self, images: Tensor) -> Tensor:
        """The images (B, C, H, W) as they are, or shrunk as long as they are `small`."""
        if not self.small:
            return images
        return F.interpolate(images, small_size(images.shape[2:]), mode="bilinear", antialias=True)

    @property
    def warmup_weight(self) -> float:
        """The part of the warm-up loss, which falls from 1 to 0 over the first `warmup_share` of all steps."""
        return max(0.0, 1 - self.progress / self.warmup_share) if self.warmup_share else 0.0

    @property
    def small(self) -> bool:
        """Whether images are shrunk now."""
        return bool(self.small_share) and self.progress < self.small_share

    @property
    def progress(self) -> float:
        """The share of all steps that are done."""
        return self.trainer.global_step / self.trainer.estimated_stepping_batches

    def on_validation_epoch_start(self) -> None:
        self.truths, self.readings, self.losses, self.silent = [], [], [], 0

    def validation_step(self, batch: tuple[Tensor, list[str]], _: int) -> None:
        images, texts = batch
        logits = self(self.sized(images))
        check_finite(self.trainer, self, "output of the network", logits)  # before it is read
        self.truths += texts
        self.readings += self.codec.read(logits)
        self.silent += self.codec.silent(logits)
        known = [index for index, text in enumerate(texts) if self.codec.can_spell(text)]
        if known:  # a character outside the charset has no loss; its reading counts as wrong
            loss = self.codec.loss(logits[known], [texts[index] for index in known]).item()
            self.losses += [loss] * len(known)

    def on_validation_epoch_end(self) -> None:
        texts = [reading.text for reading in self.readings]
        cer = metrics.character_error_rate(texts, self.truths)
        if self.losses:
            check_finite(self.trainer, self, "validation loss", torch.tensor(self.losses))
        loss = sum(self.losses) / len(self.losses) if self.losses else float("nan")
        self.log("val_loss", loss)
        self.log("val_exact", metrics.exact_match(texts, self.truths))
        self.log("val_cer", cer)
        if self.small:
            self.log("val_rank", 1 / (2 + self.current_epoch) - 1)
            return
        if cer < self.lowest:
            self.lowest, self.allowed = cer, cer + metrics.standard_error(texts, self.truths)
        self.log("val_rank", -1.0 - self.current_epoch if cer <= self.allowed else 0.0)

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        checkpoint["lowest"] = [self.lowest, self.allowed]

    def on_load_checkpoint(self, checkpoint: dict[str, object]) -> None:
        self.lowest, self.allowed = checkpoint["lowest"]

    def configure_optimizers(self) -> dict[str, object]:
        fused = self.trainer.precision != "16-mixed"  # its scaled gradients could not be clipped in a fused step
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=5e-2, fused=fused)
        steps = max(5, int(self.trainer.estimated_stepping_batches))  # at 4 OneCycleLR divides by zero
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps, pct_start=0.25)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float, gradient_clip_algorithm: str | None
    ) -> None:
        nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)  # Lightning's own refuses every fused optimizer


class EpochReport(Callback):
    """Prints one line an epoch, keeps the rows in `history`, hands each to `record`, and explains the blank plateau."""

    def __init__(self, record: Callable[[dict[str, float]], None] | None = None) -> None:
        self.history: list[dict[str, float]] = []
        self.record = record
        self.seen = 0  # images this epoch
        self.cpu_seconds = 0.0  # of all threads of the process, validation left out
        self.stuck = 0  # epochs on the blank plateau, since the warm-up

    def state_dict(self) -> dict[str, object]:
        return {"history": self.history, "cpu_seconds": self.cpu_seconds, "stuck": self.stuck}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.history, self.cpu_seconds, self.stuck = state["history"], state["cpu_seconds"], state["stuck"]

    def on_train_start(self, trainer: pl.Trainer, module: LitOCR) -> None:
        self.started, self.first = time.perf_counter(), trainer.current_epoch
        for row in self.history if self.record else ():  # the last one may not have been recorded before the end came
            self.record(row)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: LitOCR) -> None:
        self.epoch_started, self.cpu_started, self.seen = time.perf_counter(), time.process_time(), 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: LitOCR, outputs: object, batch: tuple, _: int) -> None:
        self.seen += len(batch[1])

    def on_validation_start(self, trainer: pl.Trainer, module: LitOCR) -> None:
        self.train_seconds = time.perf_counter() - self.epoch_started
        self.cpu_seconds += time.process_time() - self.cpu_started

    def on_train_epoch_end(self, trainer: pl.Trainer, module: LitOCR) -> None:
        if is_partial(trainer) and self.history:
            return
        row = {name: float(trainer.callback_metrics[name]) for name in METRICS if name in trainer.callback_metrics}
        done = trainer.current_epoch + 1  # epochs are counted from 1, here and in MLflow
        rate = self.seen * trainer.world_size / self.train_seconds
        row |= {"epoch": done, "images_per_s": rate, "cpu_seconds": self.cpu_seconds}
        self.history.append(row)
        if not trainer.is_global_zero:
            return
        pace = (time.perf_counter() - self.started) / (done - self.first)
        minutes, seconds = divmod(round(pace * (trainer.max_epochs - done)), 60)
        values = "  ".join(f"{name} {row[name]:.4f}" for name in METRICS if name in row)
        phase = "  warm-up" * (module.warmup_weight > 0) + "  small pictures" * module.small
        print(
            f"epoch {done}/{trainer.max_epochs}  {values}  {row['images_per_s']:.0f} images/s"
            f"  {minutes}:{seconds:02} left{phase}",
            flush=True,
        )
        if self.record:
            self.record(row)
        self._explain_plateau(module)

    def _explain_plateau(self, module: LitOCR) -> None:
        silent = module.silent / max(1, len(module.readings))
        self.stuck = 0 if silent < PLATEAU_SHARE or module.warmup_weight else self.stuck + 1
        if self.stuck > PLATEAU_EPOCHS:
            print("  still on the blank plateau", flush=True)
        if self.stuck != PLATEAU_EPOCHS:
            return
        print(
            f"  of {silent:.0%} of the validation images the network says nothing: it sits on the blank plateau, where saying"
            " nothing is the cheapest answer it knows. It may leave by itself; sooner with a larger warmup_share, more"
            " epochs, or augment=False to begin with. If it stays, check that the labels belong to the pictures.",
            flush=True,
        )


class RunningAverage(WeightAveraging):
    """The exponential average of the weights, which is what is validated and kept.

    It reaches back over a ninth of the steps so far, until AVERAGE limits it: weights change fast in the beginning.
    It is kept on `device`: by itself it would stay on the CPU, where Lightning sets it up before the weights move, and
    every step would wait to copy them. Source of the reach: num_updates of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, device: str) -> None:
        super().__init__(device, multi_avg_fn=lambda *tensors: get_ema_multi_avg_fn(self.decay)(*tensors))

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After every step, of which `step_idx` is the number from 0."""
        if step_idx is not None:
            self.decay = min(AVERAGE, (1 + step_idx) / (10 + step_idx))
        return step_idx is not None


class Limits(Callback):
    """Ends a training in good time, before `hours` are over or the disk is full, so that it can be tested and packed."""

    def __init__(self, hours: float | None, work: Path) -> None:
        self.end = clock() + 3600 * hours if hours else float("inf")
        self.reserve = max(20.0, 0.05 * 3600 * hours) if hours else 0.0  # seconds, for figures and zip
        self.validation = 0.0  # seconds that the last one took
        self.work = work
        self.cut_short = False

    def on_validation_start(self, trainer: pl.Trainer, module: LitOCR) -> None:
        self.started = clock()

    def on_validation_end(self, trainer: pl.Trainer, module: LitOCR) -> None:
        self.validation = clock() - self.started

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if self.end < float("inf"):
            late = clock() > self.end - self.reserve - 3 * self.validation  # one more of it, and a test
            self._stop_if(late, trainer, "the time of max_hours is used up")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: LitOCR) -> None:
        written = [file for name in ("checkpoints", "mlruns") for file in (self.work / name).rglob("*")]
        needed = 2 * sum(file.stat().st_size for file in written if file.is_file()) + SPARE
        free = shutil.disk_usage(self.work).free
        self._stop_if(free < needed, trainer, f"{free / 2**20:.0f} MiB are left on the disk of {self.work}")

    def _stop_if(self, wanted: bool, trainer: pl.Trainer, why: str) -> None:
        if trainer.strategy.reduce_boolean_decision(wanted, all=False) and not trainer.should_stop:
            trainer.should_stop = self.cut_short = True
            if trainer.is_global_zero:
                print(f"stopping in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {why}", flush=True)


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
    network = recipe.network(codec, config.pretrained)
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
