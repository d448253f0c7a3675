"""Checkpoints of a training: whole on the disk, owned by one training, looked at before they are gone on with."""

import os
import pickle
import shutil
import zlib
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import nn

from helpers.output import cause
from mlruns_tools.fixed_paths import Refused, at_once, made_whole, sync

LAST, BEST = "last.ckpt", "best.ckpt"  # in the folder `checkpoints` of the work folder
OWNER = "session"  # key of a checkpoint: the id of its training
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, TypeError, AttributeError, pickle.UnpicklingError)
UNREADABLE += (BadZipFile, zlib.error, MemoryError, Refused)


class Diverged(ValueError):
    """The loss of a training is no number any more; the message says in which epoch, and what helps."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the sentence."""
        return [f"Diverged: {self}"]


def is_partial(trainer: pl.Trainer) -> bool:
    """Whether the epoch was left before its last batch. Only a first epoch counts then: the others are trained again."""
    return not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


class Checkpoints(Checkpoint):
    """`last.ckpt` after each whole epoch, from which a training goes on, and `best.ckpt`, that of the epoch to keep.

    A file of either name is always whole, also after a loss of power, and carries the id of its training. An epoch whose
    loss is no number raises Diverged, and leaves the checkpoints of the epochs before.
    """

    def __init__(self, folder: Path, owner: str = "") -> None:
        self.folder, self.owner = folder, owner
        self.lowest = float("inf")  # val_rank

    def state_dict(self) -> dict[str, object]:
        return {"lowest": self.lowest}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.lowest = state["lowest"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, object]
    ) -> None:
        checkpoint[OWNER] = self.owner

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        check_finite(trainer, module, "training loss", trainer.callback_metrics["train_loss"])
        partial, rank = is_partial(trainer), float(trainer.callback_metrics["val_rank"])
        if partial and self.lowest < float("inf"):
            return
        better, self.lowest = rank < self.lowest, min(rank, self.lowest)
        part = self.folder / f"{LAST}.part"
        if trainer.is_global_zero:
            part.unlink(missing_ok=True)  # of a process that was killed, or a link
        trainer.save_checkpoint(part)  # on every process, of which the first writes
        if not trainer.is_global_zero:
            return
        if better:
            copy(part, self.folder / BEST)
        if partial:
            return part.unlink()
        sync(part)
        os.replace(part, self.folder / LAST)
        sync(self.folder)


def check_finite(trainer: pl.Trainer, module: pl.LightningModule, what: str, values: torch.Tensor) -> None:
    """Raises Diverged where one of the values is no number."""
    if torch.isfinite(values).all():
        return
    (kept,) = (each for each in trainer.callbacks if isinstance(each, Checkpoints))
    before = f"The weights before it are in {kept.folder / BEST}. " * (kept.lowest < float("inf"))
    raise Diverged(
        f"in epoch {trainer.current_epoch + 1} the {what} became no number. {before}Take a smaller learning_rate than"
        f" {module.learning_rate:g}, or precision='32-true'."
    )


def copy(source: Path, target: Path) -> None:
    """The file under another name, which has it whole or as it was before."""
    with made_whole(target) as part:
        shutil.copyfile(source, part)


def set_aside(path: Path) -> Path:
    """The new name of a file that cannot be used and is not ours to remove."""
    aside = next(p for n in range(1, 10**6) if not os.path.lexists(p := path.with_name(f"{path.name}.aside{n}")))
    os.replace(path, aside)
    return aside


def ready(folder: Path, module: nn.Module, owner: str) -> Path | None:
    """The checkpoint to go on from, made `last.ckpt`; None where there is none. What cannot be gone on with is set aside.

    That is what is no checkpoint, or damaged, or of another training than `owner`, or of another network. For a
    `last.ckpt` that is lost the best one stands in, and the other way round.
    """
    faults = {name: _fault(folder / name, module, owner) for name in (LAST, BEST) if (folder / name).exists()}
    for name, fault in faults.items():
        if fault:
            print(f"{folder / name} {fault}: it is {set_aside(folder / name).name} now", flush=True)
    good = [name for name, fault in faults.items() if not fault]
    if not good:
        if any(faults.values()):
            print("the training begins anew", flush=True)
        return None
    for name in {LAST, BEST} - set(good):
        if name in faults or name == LAST:
            print(f"{good[0]} is taken in its place", flush=True)
        copy(folder / good[0], folder / name)
    return folder / LAST


def _fault(path: Path, module: nn.Module, owner: str) -> str:
    """What is wrong with a checkpoint; "" for one to go on from."""
    try:
        found = _load(path)
        if found.get(OWNER) != owner:
            return "belongs to another training"
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        if {name: tensor.shape for name, tensor in found["state_dict"].items()} != shapes:
            return "holds the weights of another network"
        missing = [
            key for key in ("epoch", "global_step", "optimizer_states", "callbacks", "loops") if key not in found
        ]
        return f"lacks {', '.join(missing)}" if missing else ""
    except UNREADABLE as error:
        return f"cannot be read ({cause(error)})"


def _load(path: Path) -> dict[str, object]:
    """A checkpoint as torch writes it: a zip that packs nothing, whose sums torch itself does not look at."""
    with at_once(path) as file, ZipFile(file) as members:
        if packed := [info.filename for info in members.infolist() if info.compress_type != ZIP_STORED]:
            raise ValueError(f"its {packed[0]} is packed, which torch does not do")
        if damaged := members.testzip():
            raise ValueError(f"its {damaged} is damaged")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
