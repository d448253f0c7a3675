"""What the notebooks show is true: alignments against a hand count and the library, shapes against the network."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.config import Config
from helpers.data.module import CaptchaData
from helpers.experiment import Result
from helpers.lessons import ctc as lessons
from helpers.lessons import trials
from helpers.models.codec import CTCCodec, FixedLengthCodec
from helpers.models.recipes import RECIPES
from helpers.training.trainer import build


def test_a_path_collapses_as_by_hand() -> None:
    assert lessons.without_repeats("AA-AB") == "A-AB" and lessons.without_blanks("A-AB") == "AAB"
    assert lessons.without_repeats(["A", "A", "", "A", "B"]) == "AAB"
    assert lessons.without_repeats("") == lessons.without_blanks("--") == ""


def test_alignments_are_those_found_by_hand() -> None:
    assert sorted(lessons.alignments("AB", 3)) == sorted(["AAB", "ABB", "-AB", "A-B", "AB-"])
    assert lessons.alignments("AA", 3) == ["A-A"]
    assert lessons.alignments("AA", 2) == [] and lessons.alignments("", 2) == ["--"]


@given(text=st.text("ABC", max_size=3), frames=st.integers(0, 6))
def test_alignments_are_counted_without_listing_them(text: str, frames: int) -> None:
    paths = lessons.alignments(text, frames)
    assert lessons.count_alignments(text, frames) == len(paths) == len(set(paths))
    assert bool(paths) == (frames >= CTCCodec("ABC").steps(text))


@pytest.mark.parametrize("text", ["A", "AB", "AA", "ABA", "ABBA"])
def test_brute_force_over_the_alignments_is_the_loss(text: str) -> None:
    codec = CTCCodec("BA")  # ids that follow the charset, not the alphabet
    logits = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0))
    share = lessons.brute_force_probability(logits[0].log_softmax(-1), text, codec)
    assert -math.log(share) == pytest.approx(codec.loss(logits, [text]).item() * len(text), rel=1e-5)


def test_classes_spell_what_the_codec_reads() -> None:
    assert lessons.spelled(CTCCodec("XY")) == lessons.spelled(CTCCodec("XY", length=4)) == ["", "X", "Y"]
    assert lessons.spelled(FixedLengthCodec("XY", 4)) == ["X", "Y"]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_stages_begin_with_the_images_end_with_the_logits_and_hold_every_parameter(recipe) -> None:
    network = recipe.network(recipe.codec("ABC", 4)).train()
    images = torch.zeros(2, recipe.channels, *recipe.image_size)
    rows = [re.split(r"\s{2,}", line.strip()) for line in lessons.stages(network, images).splitlines()]
    assert rows[0] == ["stage", "layer", "parameters", "shape"]
    assert rows[1] == ["images", str(tuple(images.shape))]
    assert rows[-1] == ["logits", str(tuple(network(images).shape))]
    counted = sum(int(row[2].replace(",", "")) for row in rows[1:] if len(row) == 4)
    assert counted == sum(parameter.numel() for parameter in network.parameters())
    assert network.training and not any(module._forward_hooks for module in network.modules())


def test_stages_tell_of_the_columns_that_the_gru_is_given() -> None:
    recipe = RECIPES["cnn_gru_ctc"]
    table = lessons.stages(recipe.network(recipe.codec("ABC", None)), torch.zeros(1, 3, 40, 150))
    assert re.search(r"ReLU +0  \(1, 64, 10, 37\)\n +reshaped +\(1, 37, 640\)\ngru +GRU .*\(1, 37, 64\)\n", table)


def test_one_batch_has_one_width_and_the_texts_of_its_pictures(journey: tuple[Config, CaptchaData, Result]) -> None:
    _, data, _ = journey
    images, texts = trials.one_batch(data, pictures=3)
    step = len(data.train) // 3  # from all over the set
    assert images.shape[0] == len(texts) == 3 and texts == data.train.texts[: 3 * step : step]
    again = data.val.transform(image=data.train.images[step])["image"]
    assert torch.equal(images[1], again)


@pytest.mark.parametrize("name", ["cnn_gru_ctc", "conv_ctc"])
def test_one_batch_is_learned_by_heart(name: str, journey: tuple[Config, CaptchaData, Result]) -> None:
    config, data, _ = journey
    recipe = RECIPES[name]
    images, texts = trials.one_batch(data, pictures=2)
    images = images[:, : recipe.channels]
    module = build(config, data)
    module.network = recipe.network(module.codec)
    rows = trials.memorise(module, images, texts, steps=60, warmup_share=0.2)
    assert [row["step"] for row in rows] == [*range(1, 61)]
    assert rows[-1]["right"] == 2 and rows[-1]["silent"] == 0 and rows[-1]["loss"] < 1
    assert trials.first_step(rows, "right", 2) != trials.first_step(rows, "right", 3) == "not within 60 steps"
    assert len(trials.memorise_figure({"a": rows, "b": rows}, 2).axes) == 3


def test_pooling_over_a_row_cannot_tell_the_order_of_its_letters() -> None:
    row = trials.in_a_row(trials.letters(range(1))[0][None])  # (1, 1, 32, 128)
    moved = row.roll(32, dims=3)
    assert row.shape == (1, 1, 32, 128) and not torch.allclose(row, moved)
    pooled, whole = (trials.small_network(pooled, "circular").eval() for pooled in (True, False))
    with torch.inference_mode():
        assert torch.allclose(pooled(row), pooled(moved), atol=1e-6)
        assert not torch.allclose(whole(row), whole(moved), atol=1e-3)


def test_a_network_that_sees_the_map_whole_reads_rows_that_a_pooled_one_cannot() -> None:
    whole = trials.read_rows(trials.small_network(pooled=False), steps=60)
    pooled = trials.read_rows(trials.small_network(pooled=True, padding="circular"), steps=60)
    assert whole[0] > pooled[0] + 0.2 and whole[1] > pooled[1] + 0.2
    assert pooled[1] < 0.1 and 0.15 < pooled[0] < 0.7  # it learns which letters there are, in no place
