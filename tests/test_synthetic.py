"""Synthetic captchas: the same on every call, distinct on every file system, and never a mixture of two sets."""

import random
import secrets
from pathlib import Path

import captcha.image
import numpy as np
import pytest
from PIL import Image

from helpers.synthetic import CHARSET, MARKER, RESERVED, draw_texts, make_captchas


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if name.endswith(".png")}


def test_same_seed_same_bytes_whatever_else_was_drawn(tmp_path: Path) -> None:
    first = contents(make_captchas(tmp_path / "a", 8))
    random.random()
    random.seed(5)
    captcha.image.ImageCaptcha().generate("AB")
    assert contents(make_captchas(tmp_path / "b", 8)) == first
    assert len(set(first.values())) == 9  # eight different pictures and the marker


def test_a_smaller_set_begins_a_larger_one(tmp_path: Path) -> None:
    small, large = (pictures(make_captchas(tmp_path / str(n), n, length=(3, 5))) for n in (4, 12))
    assert len(small) == 4 and small.items() <= large.items()
    assert draw_texts(12, CHARSET, (3, 5), 0)[:4] == draw_texts(4, CHARSET, (3, 5), 0)


def test_the_seed_matters(tmp_path: Path) -> None:
    one, two = (pictures(make_captchas(tmp_path / str(seed), 6, seed=seed)) for seed in (1, 2))
    assert not one.keys() & two.keys()
    # the picture too, not only the text: with one text possible, both seeds paint the same letter
    one, two = (make_captchas(tmp_path / f"x{seed}", 1, charset="X", length=1, seed=seed) for seed in (1, 2))
    assert (one / "X.png").read_bytes() != (two / "X.png").read_bytes()


@pytest.mark.parametrize("image_size", [(40, 150), (64, 128), (16, 16)])
def test_size_is_height_then_width_and_something_is_drawn(tmp_path: Path, image_size: tuple[int, int]) -> None:
    folder = make_captchas(tmp_path, 2, image_size=image_size)
    for name in pictures(folder):
        image = np.asarray(Image.open(folder / name))
        assert image.shape == (*image_size, 3)
        assert image.std() > 5


def test_letters_grow_with_the_picture(tmp_path: Path) -> None:
    heights = []
    for factor in (1, 3):
        size = (40 * factor, 150 * factor)
        folder = make_captchas(tmp_path / str(factor), 1, charset="H", length=5, image_size=size)
        gray = np.asarray(Image.open(folder / "HHHHH.png").convert("L")).astype(int)
        dark_rows = ((gray.max() - gray) > 40).sum(axis=1) > 20 * factor  # rows that cross several letters
        heights.append(dark_rows.sum() / size[0])
    assert heights[1] == pytest.approx(heights[0], abs=0.25)
    assert heights[1] > 0.35


def test_texts_are_distinct_case_folded_and_never_device_names() -> None:
    texts = draw_texts(60, "aAbBcC", 4, 0)
    assert len({text.casefold() for text in texts}) == 60
    assert any(text != text.lower() for text in texts) and any(text != text.upper() for text in texts)
    every = draw_texts(4**3 - 1, "CONX", 3, 0)  # all of them but one
    assert len(set(every)) == 63 and "CON" not in every and "con" in RESERVED


def test_doubled_letters_occur_as_often_as_chance_has_it() -> None:
    texts = draw_texts(4000, CHARSET, 5, 3)
    share = sum(any(a == b for a, b in zip(text, text[1:], strict=False)) for text in texts) / len(texts)
    assert share == pytest.approx(1 - (31 / 32) ** 4, abs=4 * (0.12 * 0.88 / 4000) ** 0.5)


def test_lengths_span_the_range() -> None:
    assert {len(text) for text in draw_texts(100, CHARSET, (2, 4), 0)} == {2, 3, 4}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"count": 0}, "0 captchas"),
        ({"count": 5, "charset": "AB", "length": 2}, "4 texts differ"),
        ({"count": 3, "charset": "aA", "length": (1, 2)}, "2 texts differ"),  # a and aa, whatever the case
        ({"count": 64, "charset": "CONX", "length": 3}, "63 texts differ"),
        ({"count": 1, "charset": ""}, "charset=''"),
        ({"count": 1, "charset": "AAB"}, "each once"),
        ({"count": 1, "charset": "A/"}, "letters and digits"),
        ({"count": 1, "charset": "Aß"}, "letters and digits"),
        ({"count": 1, "length": 0}, "length=0"),
        ({"count": 1, "length": (4, 3)}, r"length=\(4, 3\)"),
        ({"count": 1, "image_size": (8, 150)}, "too small"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path: Path, settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_captchas(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_complete_folder_is_used_again_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_captchas(tmp_path, 3)
    (tmp_path / ".hidden").touch()  # what desktops leave behind
    monkeypatch.setattr(captcha.image.ImageCaptcha, "generate", lambda *_: pytest.fail("painted anew"))
    assert make_captchas(tmp_path, 3) == tmp_path


@pytest.mark.parametrize("lost", [[MARKER], [0, MARKER], [1], [0, 1, 2]])
def test_a_half_finished_folder_is_completed_and_said_to_be(tmp_path: Path, lost: list) -> None:
    whole = contents(make_captchas(tmp_path, 4))
    for name in lost:
        (tmp_path / (sorted(whole)[name] if isinstance(name, int) else name)).unlink()
    with pytest.warns(UserWarning, match="half-finished"):
        make_captchas(tmp_path, 4)
    assert contents(tmp_path) == whole


def test_a_session_that_died_while_painting_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint, painted = captcha.image.ImageCaptcha.generate, []

    def dies_at_the_third(painter: captcha.image.ImageCaptcha, text: str) -> object:
        painted.append(text)
        if len(painted) == 3:
            raise KeyboardInterrupt
        return paint(painter, text)

    with monkeypatch.context() as patch:
        patch.setattr(captcha.image.ImageCaptcha, "generate", dies_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            make_captchas(tmp_path / "a", 5)
    assert captcha.image.secrets is secrets  # given back in spite of the exception
    assert len(contents(tmp_path / "a")) == 2
    with pytest.warns(UserWarning, match="2 of 5"):
        make_captchas(tmp_path / "a", 5)
    assert contents(tmp_path / "a") == contents(make_captchas(tmp_path / "b", 5))


@pytest.mark.parametrize("other", [{"seed": 1}, {"length": 4}, {"image_size": (40, 160)}, {"charset": "ABC"}])
@pytest.mark.parametrize("lost", [[], [MARKER], [MARKER, 0], [MARKER, 2]])
def test_another_set_is_refused_by_name_and_left_alone(tmp_path: Path, other: dict, lost: list) -> None:
    make_captchas(tmp_path, **{"count": 3, **other})
    for name in lost:
        (sorted(tmp_path.glob("*.png"))[name] if isinstance(name, int) else tmp_path / name).unlink()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=tmp_path.name):
        make_captchas(tmp_path, 3)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("count", [2, 4])
def test_a_complete_set_of_another_size_is_refused(tmp_path: Path, count: int) -> None:
    before = contents(make_captchas(tmp_path, count))
    with pytest.raises(ValueError, match=f'"count": {count}'):
        make_captchas(tmp_path, 3)
    assert contents(tmp_path) == before


def test_somebody_elses_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ValueError, match="holiday.jpg"):
        make_captchas(tmp_path, 3)


def test_the_packages_own_randomness_is_given_back(tmp_path: Path) -> None:
    make_captchas(tmp_path, 1)
    assert captcha.image.secrets is secrets
