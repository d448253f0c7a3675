"""Synthetic captchas: the same on every call, distinct on every file system, and never a mixture of two sets."""

import hashlib
import io
import json
import multiprocessing
import os
import random
import secrets
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import captcha.image
import numpy as np
import pytest
from PIL import Image

from helpers.config import PROJECT as ROOT
from helpers.synthetic import painting, styles
from helpers.synthetic.captchas import CHARSET, RESERVED, Synthetic, draw_texts
from helpers.synthetic.folder import MARKER, make_captchas
from helpers.synthetic.styles import FINE, STYLES
from tests import verbs

ALPHANUMERIC = string.digits + string.ascii_letters
SIZES = [(24, 72), (40, 150), (50, 200), (60, 160)]  # (height, width), pixels


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if name.endswith(".png")}


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("L")).astype(int)


def digest(spec: Synthetic) -> str:
    return hashlib.sha256(b"".join(spec.pictures(workers=1))).hexdigest()


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=30)


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


def test_characters_drawn_often_come_as_often_as_they_are_named() -> None:
    written = "".join(draw_texts(4000, CHARSET, 5, 3, often="WWWQ"))
    for character, times in (("W", 4), ("Q", 2), ("A", 1)):
        share = times / (len(CHARSET) + 4)
        assert written.count(character) / len(written) == pytest.approx(share, abs=4 * (share / len(written)) ** 0.5)


def test_texts_repeat_as_chance_has_it_where_they_may() -> None:
    texts = draw_texts(4000, "AO0", 4, 3, often="O0O0", repeats=True)
    assert len(texts) == 4000 and len(set(texts)) > 3**4 / 2  # the rarest need not come
    assert "".join(texts).count("A") / 16000 == pytest.approx(1 / 7, abs=4 * (1 / 7 / 16000) ** 0.5)
    pictures = [*Synthetic(9, "A", 4, repeats=True).pictures()]
    assert len({*pictures}) == 9  # of one text


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
        ({"count": 1, "style": "cubist"}, "one of classic, package, clean, wavy, colour, mixed is expected"),
        ({"count": 1, "style": "clean", "charset": "漢字"}, "no font"),
        ({"count": 1, "workers": 0}, "workers=0"),
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


OTHER_SETS = [{"seed": 1}, {"length": 4}, {"image_size": (40, 160)}, {"charset": "ABC"}, {"style": "clean"}]


@pytest.mark.parametrize("other", OTHER_SETS)
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


@pytest.mark.parametrize("style", STYLES)
def test_in_memory_as_in_files_whatever_the_number_of_processes(tmp_path: Path, style: str) -> None:
    spec = Synthetic(9, length=(3, 5), style=style, seed=4)
    one = dict(zip(spec.texts(), spec.pictures(workers=1), strict=True))
    assert dict(zip(spec.texts(), spec.pictures(workers=4), strict=True)) == one
    folder = make_captchas(tmp_path, 9, length=(3, 5), style=style, seed=4, workers=2)
    assert pictures(folder) == {f"{text}.png": picture for text, picture in one.items()}
    assert list(replace(spec, count=4).pictures()) == list(one.values())[:4]


def test_the_marker_names_a_style_only_where_it_is_not_the_first_one(tmp_path: Path) -> None:
    markers = {style: make_captchas(tmp_path / style, 2, style=style) / MARKER for style in ("classic", "wavy")}
    settings = {"count": 2, "charset": CHARSET, "length": 5, "image_size": [40, 150], "seed": 0}
    assert markers["classic"].read_text(encoding="utf-8") == json.dumps(settings, indent=2) + "\n"
    assert json.loads(markers["wavy"].read_text(encoding="utf-8")) == {**settings, "style": "wavy"}


def test_styles_differ_and_mixed_takes_from_each_of_the_others() -> None:
    sets = {style: list(Synthetic(24, style=style).pictures()) for style in STYLES}
    assert len(set().union(*(sets[style] for style in STYLES if style != "mixed"))) == 24 * (len(STYLES) - 1)
    drawn = [[style for style in STYLES if style != "mixed" and sets[style][i] == sets["mixed"][i]] for i in range(24)]
    assert all(len(styles) == 1 for styles in drawn)
    assert {styles[0] for styles in drawn} == set(STYLES) - {"package", "mixed"}


def test_the_package_style_is_the_package_with_a_seed() -> None:
    spec = Synthetic(2, length=4, image_size=(60, 160), style="package", seed=3)
    for index, (text, picture) in enumerate(zip(spec.texts(), spec.pictures(workers=1), strict=True)):
        with styles._secrets_from(random.Random(f"3:{index}")):
            assert picture == captcha.image.ImageCaptcha().generate(text).getvalue()


def test_other_processes_paint_the_same_without_torch() -> None:
    specs = [Synthetic(5, style=style, length=(3, 8), charset=ALPHANUMERIC) for style in STYLES]
    code = (
        "import hashlib, sys; from helpers.synthetic.captchas import Synthetic; assert 'torch' not in sys.modules\n"
        "for text in sys.argv[1:]:\n"
        "    print(hashlib.sha256(b''.join(Synthetic.parse(text).pictures(workers=1))).hexdigest())"
    )
    other = python("-c", code, *map(str, specs), PYTHONHASHSEED="7")
    assert other.stdout.split() == [digest(spec) for spec in specs] and other.stderr == ""


def test_a_plain_script_runs_once_with_several_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\nfrom helpers.synthetic.captchas import Synthetic\nprint(len([*Synthetic(6).pictures(workers=3)]))\n"
    )
    assert python(str(script)).stdout.split() == ["once", "6"]


def test_a_daemon_paints_alone_and_so_does_a_system_without_a_safe_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "linux":
        assert [painting.processes_for(*asked) for asked in ((3, 1000), (8, 3), (None, 20))] == [3, 3, 1]
        monkeypatch.setattr(multiprocessing.process.current_process(), "_config", {"daemon": True})
        assert painting.processes_for(3, 1000) == 1
        monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert painting.processes_for(3, 1000) == painting.processes_for(None, 1000) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="one process elsewhere")
def test_a_process_that_dies_is_an_error_and_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "clean", lambda *_: os._exit(3))
    with pytest.raises(RuntimeError, match="has died"):
        list(Synthetic(6, style="clean").pictures(workers=2))
    assert not multiprocessing.active_children()


@pytest.mark.skipif(sys.platform != "linux", reason="one process elsewhere")
def test_a_parent_that_is_killed_leaves_no_process_behind() -> None:
    code = (
        "import os, signal; from helpers.synthetic.captchas import Synthetic\n"
        "stream = Synthetic(5000, style='clean').pictures(workers=3)\n"
        "print(next(stream)[1:4].decode(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = python("-c", code)  # returns when nobody holds its output any more, or runs into its time limit
    assert (done.returncode, done.stdout, done.stderr) == (-9, "PNG\n", "")


def test_pictures_come_lazily_and_a_reader_that_stops_leaves_no_process() -> None:
    stream = Synthetic(20_000, length=6, style="clean").pictures(workers=2)
    assert next(stream)[:4] == b"\x89PNG"
    stream.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("image_size", SIZES)
def test_every_style_draws_inside_every_size(style: str, image_size: tuple[int, int]) -> None:
    for length in (3, 8):
        for picture in Synthetic(4, ALPHANUMERIC, length, image_size, style).pictures():
            gray = pixels(picture)
            assert gray.shape == image_size
            assert gray.std() > 5
            ink = np.abs(gray - np.median(gray)) > 40
            assert ink[2:-2].any(axis=0).mean() > 0.2  # columns with ink, of all
            if style != "package":  # whose letters outgrow a low picture
                assert ink[[0, -1]].mean() < 0.25  # a line or an arc may leave the picture; a row of letters is fuller
            assert style not in ("clean", "wavy") or not ink[[0, -1]].any()
            assert style != "clean" or not ink[:, [0, -1]].any()


@pytest.mark.parametrize("length", range(3, 9))
@pytest.mark.parametrize("image_size", SIZES)
def test_no_letter_leaves_its_room_or_hides_another(length: int, image_size: tuple[int, int]) -> None:
    height, width = (FINE * side for side in image_size)
    left, top, right, bottom = room = styles._room(width, height, swing=3)
    source = random.Random(f"{length}:{image_size}")
    for _ in range(10):
        text = "".join(source.choices(ALPHANUMERIC, k=length))
        fonts = [styles._font(source.choice(styles.fonts_for(ALPHANUMERIC)), round(0.85 * height)) for _ in text]
        placed = styles._lay_out(text, fonts, source, room, tilt=24, jump=0.08, gaps=(-0.03, 0.08))
        assert len(placed) == length
        for mask, (x, y) in placed:
            assert left - 1 <= x and x + mask.width <= right + 1
            assert top - 1 <= y and y + mask.height <= bottom + 1
            assert mask.getextrema()[1] > 100
        for (mask, (x, _)), (_, (following, _)) in zip(placed, placed[1:], strict=False):
            assert x + mask.width - following <= 0.03 * 0.85 * height + 2


def test_every_font_has_every_letter_and_none_is_clipped() -> None:
    fonts = styles.fonts_for(ALPHANUMERIC)
    assert len(fonts) >= 12 and len(set(fonts)) == len(fonts)
    for path in fonts:
        font = styles._font(path, 60)
        masks = {letter: styles._letter(letter, font, 0)[0] for letter in ALPHANUMERIC}
        assert len({(mask.size, mask.tobytes()) for mask in masks.values()}) == len(ALPHANUMERIC), path  # no two alike
        for letter in "Qgjfy":
            bare = Image.new("L", (200, 200))
            styles.ImageDraw.Draw(bare).text((60, 120), letter, fill=255, font=font, anchor="ls")
            assert np.asarray(masks[letter]).sum() == np.asarray(bare).sum(), (path, letter)


@pytest.mark.parametrize("angle", [-20, 20])
def test_a_turned_letter_stays_where_it_stood(angle: float) -> None:
    for letter in "oxHIl":  # the same upside down, nearly
        font = styles._font(styles.fonts_for("a")[0], 60)
        middles = [top + mask.height / 2 for mask, top in (styles._letter(letter, font, a) for a in (0, angle))]
        assert middles[1] == pytest.approx(middles[0], abs=1.5)


def test_tex_fonts_serve_ascii_only() -> None:
    assert len(styles.fonts_for("aÄ")) == len(styles.fonts_for("a")) - len(styles.TEX)


@pytest.mark.parametrize("style", STYLES)
def test_doubled_letters_are_painted(style: str) -> None:
    spec = Synthetic(8, charset="AB", length=3, style=style)
    assert {"AAA", "BBB", "AAB"} < set(spec.texts())
    assert len(set(spec.pictures())) == 8


@pytest.mark.parametrize("style", STYLES)
def test_the_smallest_picture_with_too_many_letters_is_still_a_picture(style: str) -> None:
    (picture,) = Synthetic(1, length=20, image_size=(16, 16), style=style).pictures()
    assert pixels(picture).shape == (16, 16)


@pytest.mark.parametrize(
    "spec",
    [
        Synthetic(),
        Synthetic(20, "abcXYZ019", (4, 6), (24, 72), "wavy", -3),
        Synthetic(length=(5, 5), style="mixed"),
        Synthetic(9, charset="äé"),
        Synthetic(9, charset="XO0", often="O00"),
        Synthetic(99, "XO0", 4, seed=2, often="O0", repeats=True),
    ],
)
def test_a_spec_is_what_its_text_says(spec: Synthetic) -> None:
    assert Synthetic.parse(str(spec)) == spec
    assert Synthetic.parse(str(spec), image_size=(99, 99), length=9) == spec  # what is given counts


def test_keys_are_optional_in_any_order_and_the_size_is_width_by_height() -> None:
    assert Synthetic.parse("synthetic:") == Synthetic()
    assert Synthetic.parse("synthetic:", image_size=(64, 128), length=(4, 6)) == Synthetic(
        image_size=(64, 128), length=(4, 6)
    )
    text = "synthetic:seed=1, size=150X40, charset=abc, length=4-6,style=wavy,count=200"
    assert Synthetic.parse(text) == Synthetic(200, "abc", (4, 6), (40, 150), "wavy", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("count=5", "synthetic:KEY=VALUE"),
        ("synthetic", "synthetic:KEY=VALUE"),
        ("synthetic:colour=red", "count, charset, length, size, style, seed"),
        ("synthetic:count", "'count' in .* KEY=VALUE"),
        ("synthetic:count=5,count=6", "each once"),
        ("synthetic:count=many", "count=many cannot be used: a whole number"),
        ("synthetic:count=0", "0 captchas"),
        ("synthetic:size=150", "WIDTHxHEIGHT in pixels"),
        ("synthetic:size=150x40x3", "WIDTHxHEIGHT in pixels"),
        ("synthetic:size=axb", "WIDTHxHEIGHT in pixels"),
        ("synthetic:size=150x4", "too small"),
        ("synthetic:length=4-", "5, or 4-6"),
        ("synthetic:length=six", "5, or 4-6"),
        ("synthetic:length=6-4", r"\(lowest, highest\)"),
        ("synthetic:charset=", "letters and digits"),
        ("synthetic:seed=x", "seed=x .* a whole number"),
        ("synthetic:often=O", "often='O' .* characters of charset"),
        ("synthetic:repeats=often", "repeats=often cannot be used: yes or no"),
        ("synthetic:repeats=", "repeats= cannot be used: yes or no"),
        ("synthetic:count=0,repeats=yes", "0 captchas"),
        ("synthetic:style=Wavy", "one of classic, package, clean, wavy, colour, mixed"),
    ],
)
def test_what_cannot_be_parsed_says_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Synthetic.parse(text)


def test_the_command_line_makes_what_the_function_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--count=7", "--charset=abc019", "--length=4-6", "--size=100x32", "--style=colour", "--seed=3"]
    assert verbs.synthetic([str(tmp_path / "a"), *asked, "--workers=2"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"7 captchas in {tmp_path / 'a'}, style colour, seed 3: 7 painted in ")
    assert said.out.count("\n") == 1 and said.out.endswith("images per second\n") and said.err == ""
    settings = {"charset": "abc019", "length": (4, 6), "image_size": (32, 100), "style": "colour", "seed": 3}
    assert contents(tmp_path / "a") == contents(make_captchas(tmp_path / "b", 7, **settings))
    assert verbs.synthetic([str(tmp_path / "a"), *asked]) == 0
    assert "all there before" in capsys.readouterr().out


def test_the_command_line_has_the_defaults_of_the_function(tmp_path: Path) -> None:
    done = python("-m", "helpers", "synthetic", str(tmp_path / "a"), "--count", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(tmp_path / "a") == contents(make_captchas(tmp_path / "b", 3))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--style", "cubist"], "one of classic"),
        (["--size", "40"], "WIDTHxHEIGHT"),
        (["--count", "ten"], "a whole number"),
        (["--length", "9-"], "5, or 4-6"),
        (["--charset", "A,B"], "letters and digits"),
        (["--workers", "0", "--count", "2"], "workers=0"),
    ],
)
def test_the_command_line_ends_with_a_sentence(tmp_path: Path, capsys, asked: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as end:
        verbs.synthetic([str(tmp_path / "out"), *asked])
    told = capsys.readouterr()
    assert end.value.code == 2 and told.out == ""
    assert said in told.err and told.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_line_refuses_what_is_no_folder_of_its_own(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "holiday.jpg").touch()
    for folder, said in ((tmp_path / "file", "file"), (tmp_path, "no part of this set")):
        with pytest.raises(SystemExit) as end:
            verbs.synthetic([str(folder), "--count", "2"])
        assert end.value.code == 2 and said in capsys.readouterr().err
