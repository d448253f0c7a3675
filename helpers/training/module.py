"""Training: one LightningModule for every network and codec, one call that goes from data to a tracked, tested model."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.models.codec import Codec
from helpers.models.recipes import small_size
from helpers.text import metrics
from helpers.text.spelling import Reading
from helpers.training.checkpoints import check_finite

METRICS = ("train_loss", "val_loss", "val_exact", "val_cer")  # one value per epoch, in the order they are shown


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
