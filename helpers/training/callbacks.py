"""What happens beside the steps of a training: a line an epoch, the running average of the weights, limits of time and disk."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from helpers.training.checkpoints import is_partial
from helpers.training.module import METRICS, LitOCR

AVERAGE = 0.98  # decay per step of the running average of the weights, at most


clock = time.monotonic  # seconds, by which time is limited


SPARE = 2**26  # bytes, of the disk, beside twice what checkpoints and record take
PLATEAU_SHARE, PLATEAU_EPOCHS = 0.95, 3  # of validation images the network says nothing, for so many epochs on end


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
