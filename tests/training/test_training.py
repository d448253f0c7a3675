"""Training: what is learned, which weights are kept, and what a person is told on the way."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.config import Config
from helpers.data.module import CaptchaData, load_data
from helpers.models import networks
from helpers.models.codec import CTCCodec
from helpers.models.recipes import RECIPES, get_recipe
from helpers.sources.names import Sample
from helpers.text import metrics
from helpers.text.spelling import Reading
from helpers.training import callbacks, trainer
from helpers.training.callbacks import EpochReport, RunningAverage
from helpers.training.checkpoints import BEST, LAST
from helpers.training.module import METRICS, LitOCR
from helpers.training.trainer import build, fit


def small(tmp_path, monkeypatch, **settings) -> tuple[Config, CaptchaData]:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    config = Config(**settings)
    return config, load_data(config)


@pytest.mark.parametrize("name", RECIPES)
def test_one_batch_can_be_memorised(name, tmp_path, monkeypatch) -> None:
    """The first sanity check of any network: a loss that teaches and a reading that belongs to it."""
    size = (32, 64) if name == "resnet18" else (24, 80)
    config, data = small(tmp_path, monkeypatch, recipe=name, image_size=size, synthetic_count=20, augment=False)
    module = build(config, data)
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if isinstance(part, torch.nn.GRU):
            part.dropout = 0.0
    items = [data.train[index] for index in range(4)]
    images, texts = torch.stack([image for image, _ in items]), [text for _, text in items]
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for step in range(300):
        logits = module(images)
        loss = (module.codec.warmup_loss if step < 80 else module.codec.loss)(logits, texts)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()
        if step >= 80 and step % 10 == 0 and [r.text for r in module.codec.read(logits)] == texts:
            return
    pytest.fail(f"{name} cannot memorise 4 captchas: {[r.text for r in module.codec.read(logits)]} for {texts}")


def test_best_weights_are_kept_not_the_last(tmp_path, monkeypatch) -> None:
    """A training that ruins itself at the end must still give the epoch that was best."""
    monkeypatch.setenv("CAPTCHA_EPOCHS", "3")
    monkeypatch.setattr(callbacks, "AVERAGE", 0)
    config, data = small(tmp_path, monkeypatch, image_size=(16, 64), data="synthetic:count=60,length=4-5")
    rows = []

    def on_train_epoch_start(module: LitOCR) -> None:
        if module.current_epoch == 2:  # the last epoch starts from, and stays near, nonsense
            for parameter in module.parameters():
                parameter.data.normal_(0, 5)

    monkeypatch.setattr(LitOCR, "on_train_epoch_start", on_train_epoch_start)
    fitted = fit(config, data, rows.append)
    seconds = [row["cpu_seconds"] for row in rows]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    assert len(rows) == 3 and rows[2]["val_loss"] > 2 * max(rows[0]["val_loss"], rows[1]["val_loss"])
    assert fitted.best in rows[:2]
    assert max(p.abs().max().item() for p in fitted.module.network.head.parameters()) < 5


@pytest.mark.parametrize(
    ("wrong", "kept"),  # of 100 captchas with 2 characters in each epoch; one standard error of 10 is 3, of none 0
    [
        ([50, 10, 12, 13], 4),
        ([50, 10, 14, 13, 14], 4),
        ([50, 10, 14, 40, 14], 2),
        ([12, 10, 12, 8, 12], 4),  # each near the one before, the last too far from the best
        ([100, 100, 100], 3),
        ([3, 0, 1, 0, 1], 4),
    ],
)
def test_the_latest_epoch_as_good_as_the_best_is_kept(wrong: list[int], kept: int, monkeypatch) -> None:
    module, ranks = LitOCR(torch.nn.Linear(1, 1), CTCCodec("ab"), 1e-3), []
    monkeypatch.setattr(module, "log", lambda name, value: ranks.append(value) if name == "val_rank" else None)
    for epoch, count in enumerate(wrong):
        monkeypatch.setattr(LitOCR, "current_epoch", epoch)
        module.on_validation_epoch_start()
        module.truths = ["ab"] * 100
        module.readings = [Reading("aa", 1.0)] * count + [Reading("ab", 1.0)] * (100 - count)
        module.on_validation_epoch_end()
    assert ranks.index(min(ranks)) + 1 == kept


@pytest.mark.parametrize("decay", [0, 0.2, 1])  # 1: only the number of steps limits it
def test_what_is_validated_and_kept_is_the_running_average(decay, tmp_path, monkeypatch) -> None:
    """Against an average taken by hand; batch statistics are part of it."""
    monkeypatch.setattr(callbacks, "AVERAGE", decay)
    monkeypatch.setenv("CAPTCHA_BATCH_SIZE", "8")
    config, data = small(tmp_path, monkeypatch, recipe="conv_ctc", image_size=(16, 64))
    averages, validated = [], []

    def state(module: LitOCR) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in module.state_dict().items() if value.is_floating_point()}

    def on_train_batch_end(module: LitOCR, *_: object) -> None:
        now = state(module)
        last = averages[-1] if averages else now
        old = min(decay, (1 + len(averages)) / (10 + len(averages)))
        averages.append({name: old * last[name] + (1 - old) * now[name] for name in now})

    monkeypatch.setattr(LitOCR, "on_train_batch_end", on_train_batch_end)
    monkeypatch.setattr(LitOCR, "on_validation_start", lambda module: validated.append(state(module)), raising=False)
    kept = state(fit(config, data).module)
    assert len(averages) == len(data.train) // 8 > 2 and len(validated) == 1
    for name, average in averages[-1].items():
        assert torch.allclose(kept[name], average, atol=1e-6)
    names = [n for n in kept if not n.endswith("running_mean")]
    assert any(not torch.equal(averages[0][n], averages[-1][n]) for n in names)


def test_the_running_average_is_kept_where_the_training_is() -> None:
    """Lightning sets its callbacks up before the module moves: here it is still on the CPU."""
    average = RunningAverage("meta")
    average.setup(None, LitOCR(torch.nn.Linear(1, 1), CTCCodec("ab"), 1e-3), "fit")
    assert {parameter.device.type for parameter in average._average_model.parameters()} == {"meta"}


def test_the_first_pictures_are_small_and_their_epochs_are_not_kept(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CAPTCHA_EPOCHS", "4")
    monkeypatch.setenv("CAPTCHA_BATCH_SIZE", "8")
    seen, forward = [], networks.ConvCTC.forward

    def watched(network: networks.ConvCTC, images: torch.Tensor) -> torch.Tensor:
        seen.append((network.training, *images.shape[2:]))
        return forward(network, images)

    config, data = small(tmp_path, monkeypatch, recipe="conv_ctc", image_size=(24, 96), small_share=0.5)
    monkeypatch.setattr(networks.ConvCTC, "forward", watched)
    monkeypatch.setattr(metrics, "character_error_rate", lambda *_: next(errors))
    errors = iter([0.0, 0.7, 0.6, 0.5])  # nothing is wrong while pictures are small
    fitted = fit(config, data)
    steps = 2 * (len(data.train) // 8)
    sizes = [size for training, *size in seen[1:] if training]  # the first is a look at the number of steps
    assert sizes == [[16, 64]] * steps + [[24, 96]] * steps
    assert [size for training, *size in seen[1:] if not training] == [[16, 64]] + [[24, 96]] * 3
    assert fitted.best["epoch"] == 4
    small_ones = [line.endswith("  small pictures") for line in capsys.readouterr().out.splitlines()[-4:]]
    assert small_ones == [True, False, False, False]


def test_a_training_that_ends_on_small_pictures_keeps_its_last_epoch(monkeypatch) -> None:
    module, ranks = LitOCR(torch.nn.Linear(1, 1), CTCCodec("ab"), 1e-3, small_share=0.5), []
    monkeypatch.setattr(module, "log", lambda name, value: ranks.append(value) if name == "val_rank" else None)
    for epoch, progress in enumerate((0.2, 0.4, 0.6)):
        monkeypatch.setattr(LitOCR, "current_epoch", epoch)
        monkeypatch.setattr(LitOCR, "progress", progress)
        module.on_validation_epoch_start()
        module.truths, module.readings = ["ab"], [Reading("bb" if epoch == 2 else "ab", 1.0)]
        module.on_validation_epoch_end()
    assert 0 > ranks[0] > ranks[1] > ranks[2]


def test_a_seed_repeats_a_training(tmp_path, monkeypatch) -> None:
    config, data = small(tmp_path, monkeypatch, image_size=(16, 64))
    histories = [[row["train_loss"] for row in fit(config, load_data(config)).history] for _ in range(2)]
    assert histories[0] == histories[1]
    monkeypatch.setenv("CAPTCHA_SEED", "1")
    other = Config(image_size=(16, 64))
    assert [row["train_loss"] for row in fit(other, load_data(other)).history] != histories[0]


@pytest.mark.parametrize(("silent", "weight", "told"), [(2, 0, True), (1, 0, False), (2, 1, False)])
def test_blank_plateau_is_explained(silent, weight, told, capsys) -> None:
    module = type("Module", (), {"readings": [Reading("AB", 1.0)] * 2, "silent": silent, "warmup_weight": weight})()
    report, printed = EpochReport(), []
    for _ in range(4):
        report._explain_plateau(module)
        printed.append(capsys.readouterr().out)
    assert printed[:2] == ["", ""]  # a network passes over it
    assert ("cheapest answer" in printed[2]) == told  # explained once, then only noted
    assert ("still on the blank plateau" in printed[3]) == told and "cheapest" not in printed[3]


def test_labels_that_do_not_fit_are_named_before_training(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    texts = [f"A{i}BCD" for i in range(9)] + ["AAAAAA"]
    samples = [Sample(tmp_path / f"picture-of-{text}.png", text) for text in texts]
    images = np.zeros((10, 16, 32, 3), np.uint8)
    config = Config(image_size=(16, 32))  # 8 frames; AAAAAA needs 11
    data = CaptchaData(samples, images, ["train"] * 8 + ["val", "test"], config, get_recipe(config))
    with pytest.raises(ValueError, match="picture-of-AAAAAA.png.*needs 11 frames"):
        build(config, data)
    config = Config(recipe="resnet18", image_size=(32, 64))
    images = np.zeros((10, 32, 64, 1), np.uint8)
    data = CaptchaData(samples, images, ["train"] * 8 + ["val", "test"], config, get_recipe(config))
    with pytest.raises(ValueError, match="picture-of-AAAAAA.png.*reads exactly 5"):
        build(config, data)


def test_a_character_that_training_never_saw_counts_as_wrong(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path))
    config = Config(image_size=(16, 32))
    samples = [Sample(tmp_path / f"{text}.png", text) for text in ("AB", "BA", "A", "B", "AX", "BB")]
    sides = ["train"] * 4 + ["val", "test"]
    data = CaptchaData(samples, np.zeros((6, 16, 32, 3), np.uint8), sides, config, get_recipe(config))
    assert data.charset == "AB"
    fitted = fit(config, data)
    assert "'X'" in capsys.readouterr().out
    assert fitted.history[0]["val_exact"] == 0 and np.isnan(fitted.history[0]["val_loss"])


def test_small_data_gets_more_epochs_unless_a_number_is_given(monkeypatch) -> None:
    monkeypatch.delenv("CAPTCHA_TINY")
    recipe = get_recipe(Config())
    assert recipe.epochs_for(10**6) == recipe.epochs
    assert recipe.epochs_for(160) * (160 // recipe.batch_size) >= recipe.steps
    assert get_recipe(Config(epochs=3)).epochs_for(160) == 3


def test_warm_up_passes_from_one_loss_to_the_other() -> None:
    codec = CTCCodec("AB")
    module = LitOCR(torch.nn.Linear(1, 1), codec, 1e-3, warmup_share=0.5)
    trainer = type("Trainer", (), {"estimated_stepping_batches": 100, "global_step": 0})()
    module._trainer = trainer
    shares = []
    for step in (0, 25, 50, 99):
        trainer.global_step = step
        shares.append(module.warmup_weight)
    assert shares == [1, 0.5, 0, 0]


@pytest.mark.parametrize("steps", range(1, 12))
def test_any_number_of_steps_has_a_schedule(steps) -> None:
    module = LitOCR(torch.nn.Linear(1, 1), CTCCodec("AB"), 1e-3)
    module._trainer = type("Trainer", (), {"estimated_stepping_batches": steps, "precision": "32-true"})()
    configured = module.configure_optimizers()
    for _ in range(steps):
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()


@pytest.mark.parametrize("recipe", ["conv_ctc", "cnn_gru_ctc", "resnet18"])
def test_a_training_that_goes_on_ends_as_if_it_had_not_been_interrupted(recipe: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAPTCHA_EPOCHS", "4")
    monkeypatch.setenv("CAPTCHA_BATCH_SIZE", "8")
    config, data = small(tmp_path, monkeypatch, recipe=recipe)
    whole = fit(config, data)

    def interrupt(row: dict[str, float]) -> None:
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "other"))
    config, data = small(tmp_path / "other", monkeypatch, recipe=recipe)
    with pytest.raises(SystemExit):
        fit(config, data, interrupt)  # in the third epoch, before its checkpoint
    rows = []
    _, data = small(tmp_path / "other", monkeypatch, recipe=recipe)
    again = fit(config, data, rows.append, resume=config.work / "checkpoints" / LAST)
    assert rows == again.history  # the earlier ones too, of which the last may not have been recorded
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    for name in METRICS:
        assert [row[name] for row in again.history] == [row[name] for row in whole.history]
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name


def test_a_time_limit_ends_a_training_with_what_it_has_learned(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CAPTCHA_EPOCHS", "50")
    clock = iter(range(10**6))
    monkeypatch.setattr(callbacks, "clock", lambda: next(clock))  # seconds; a step takes one
    config, data = small(tmp_path, monkeypatch, max_hours=60 / 3600)
    fitted = fit(config, data)
    assert 1 <= len(fitted.history) < 50 and "the time of max_hours is used up" in capsys.readouterr().out
    assert next(clock) < 60
    last = torch.load(config.work / "checkpoints" / LAST, weights_only=True)
    assert last["epoch"] + 1 == len(fitted.history)


def test_a_first_epoch_that_is_cut_short_is_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAPTCHA_EPOCHS", "5")
    monkeypatch.setenv("CAPTCHA_BATCH_SIZE", "1")
    clock = iter(range(10**6))
    monkeypatch.setattr(callbacks, "clock", lambda: next(clock))
    config, data = small(tmp_path, monkeypatch, max_hours=30 / 3600)
    assert len(fit(config, data).history) == 1
    assert sorted(file.name for file in (config.work / "checkpoints").iterdir()) == [BEST]


def test_a_disk_nearly_full_ends_a_training(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CAPTCHA_EPOCHS", "5")
    usage = type("usage", (), {"free": 2**26 + 1000})
    monkeypatch.setattr(callbacks.shutil, "disk_usage", lambda _: usage)
    config, data = small(tmp_path, monkeypatch)
    assert len(fit(config, data).history) == 2  # when the first checkpoint, more than 500 bytes, has been written
    assert f"64 MiB are left on the disk of {config.work}" in capsys.readouterr().out


def test_a_gpu_for_which_torch_has_no_kernels_is_not_used(monkeypatch) -> None:
    """A P100: torch finds it, and the first computation fails."""
    ones = torch.ones

    def failing(*size: int, device: str = "cpu") -> torch.Tensor:
        if device == "cuda":
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
        return ones(*size)

    monkeypatch.setenv("CAPTCHA_DEVICE", "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla P100-PCIE-16GB")
    monkeypatch.setattr(torch, "ones", failing)
    with pytest.warns(UserWarning, match="Tesla P100-PCIE-16GB cannot run this torch .*: using the CPU"):
        assert trainer.choose_device(Config()) == "cpu"


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "16-mixed"), ((8, 0), "bf16-mixed"), ((9, 0), "bf16-mixed")]
)
def test_precision_is_what_the_gpu_computes_natively(capability, precision, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert trainer.choose_precision(Config(), "cuda") == precision


def test_a_notebook_trains_in_one_process_and_a_script_in_one_per_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert trainer.choose_devices(Config(), "cuda") == 2 and trainer.choose_devices(Config(), "cpu") == 1
    assert trainer.choose_devices(Config(devices=3), "cpu") == 3
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    assert trainer.choose_devices(Config(), "cuda") == 1


def test_processes_share_every_batch_and_each_image_once(tmp_path, monkeypatch) -> None:
    _, data = small(tmp_path, monkeypatch, recipe="conv_ctc")
    whole, parts = [], []
    for rank, of in ((0, 1), (0, 2), (1, 2)):
        trainer = SimpleNamespace(
            global_rank=rank, world_size=of, strategy=SimpleNamespace(root_device=torch.device("cpu"))
        )
        data.trainer = trainer
        loader = data.train_dataloader()
        assert loader.order.batch_size == data.recipe.batch_size // of
        (whole if of == 1 else parts).append(list(loader.order))
        assert len(data.val_dataloader().order.groups) == 1
        assert sum(map(len, data.val_dataloader().order)) == len(data.val)  # every process validates all
    assert len(parts[0]) == len(parts[1]) == len(whole[0])
    indices = [index for part in parts for batch in part for index in batch]
    assert len(indices) == len(set(indices))
