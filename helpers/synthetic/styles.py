"""How synthetic captchas look: a painter for each style, which takes a task and gives a PNG file.

Everything random follows from the seed of the task, so that a picture is the same on every call.
"""

import colorsys
import io
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import captcha.image
import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SHIPPED = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
DEJAVU = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf")  # matplotlib ships them
TEX = ("cmr10.ttf", "cmb10.ttf", "cmss10.ttf", "cmtt10.ttf")  # and these, as all that follow
OTHERS = ("DejaVuSans-Oblique.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-Italic.ttf")
STIX = ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf")
FONT_SHARES = (26 / 40, 30 / 40, 34 / 40)  # font sizes as shares of the picture's height
ROTATION = (-22, 22)  # degrees; and below: calmer than the package's +-30 and 0.25, where letters hide each other
OVERLAP = 0.12  # of the average character, at most
FINE = 2  # the own painter works on a canvas so many times as wide and high, and reduces it at the end


@dataclass(frozen=True)
class Task:
    """What a painter is given."""

    text: str
    image_size: tuple[int, int]  # (height, width), pixels
    charset: str  # whose fonts are used
    seed: str  # of everything random in the picture


def _package(task: Task) -> bytes:
    """The captcha package as it comes: its one font, one colour, letters turned and warped, dots and one arc. RGB."""
    height, width = task.image_size
    sizes = tuple(round(size * height / 60) for size in (42, 50, 56))  # the package's own, for its own height
    with _secrets_from(random.Random(task.seed)):
        return _painter(width, height, tuple(captcha.image.DEFAULT_FONTS), sizes).generate(task.text).getvalue()


def _classic(task: Task) -> bytes:
    """The same in five fonts, turned less and overlapping less. RGB."""
    height, width = task.image_size
    fonts = (*captcha.image.DEFAULT_FONTS, *(str(SHIPPED / name) for name in DEJAVU))
    painter = _painter(width, height, fonts, tuple(round(share * height) for share in FONT_SHARES))
    painter.character_rotate, painter.word_offset_dx = ROTATION, OVERLAP
    with _secrets_from(random.Random(task.seed)):
        return painter.generate(task.text).getvalue()


@lru_cache(maxsize=4)
def _painter(width: int, height: int, fonts: tuple[str, ...], sizes: tuple[int, ...]) -> captcha.image.ImageCaptcha:
    return captcha.image.ImageCaptcha(width, height, list(fonts), sizes)


@contextmanager
def _secrets_from(source: random.Random) -> Iterator[None]:
    """Lets captcha 0.7.1 draw from `source`; it knows no seed and asks its module-level `secrets` alone."""
    before = captcha.image.secrets
    captcha.image.secrets = SimpleNamespace(
        choice=source.choice, randbelow=source.randrange, randbits=source.getrandbits
    )
    try:
        yield
    finally:
        captcha.image.secrets = before


def _clean(task: Task) -> bytes:
    """Dark on light, hardly moved, no noise, as of wordpress.org/plugins/really-simple-captcha. Gray."""
    source = random.Random(task.seed)
    ink, fonts = _sheet("L", task, source, 0)
    for mask, place in _lay_out(task.text, fonts, source, _room(*ink.size, 0), tilt=4, jump=0.05, gaps=(0.05, 0.35)):
        ink.paste(255, place, mask)
    return _png(_gray(ink.reduce(FINE), source.randint(0, 70), light=(source.randint(225, 255),) * 2))


def _wavy(task: Task) -> bytes:
    """Waved, one line through, blurred a little, as those of keras.io/examples/vision/captcha_ocr. Gray."""
    source = random.Random(task.seed)
    ink, fonts = _sheet("L", task, source, 0)
    fonts = fonts[:1] * len(task.text)
    width, height = ink.size
    swing = source.uniform(0.04, 0.08) * height
    room = _room(width, height, swing)
    for mask, place in _lay_out(task.text, fonts, source, room, tilt=6, jump=0.06, gaps=(-0.04, 0.06)):
        ink.paste(255, place, mask)
    middle, rise = source.uniform(0.4, 0.6) * height, source.uniform(-0.25, 0.25) * height
    line = (0, middle - rise, width, middle + rise)
    ImageDraw.Draw(ink).line(line, fill=255, width=max(FINE, round(source.uniform(0.03, 0.055) * height)))
    ink = _warp(ink, swing, source).reduce(FINE).filter(ImageFilter.GaussianBlur(0.012 * task.image_size[0]))
    return _png(_gray(ink, source.randint(0, 80), light=(source.randint(185, 250), source.randint(185, 250))))


def _colour(task: Task) -> bytes:
    """Letters turned and mostly of different colours, lines and arcs under and over, as github.com/Gregwar/Captcha. RGB."""
    source = random.Random(task.seed)
    if source.random() < 0.7:  # dark on light, else light on dark: ranges of saturation and value
        ground, letters = ((0.08, 0.35), (0.88, 1.0)), ((0.5, 1.0), (0.15, 0.5))
    else:
        ground, letters = ((0.2, 1.0), (0.0, 0.3)), ((0.1, 0.5), (0.8, 1.0))
    image, fonts = _sheet("RGB", task, source, _hue(source, *ground))
    swing = source.uniform(0.01, 0.04) * image.height
    for _ in range(source.randint(2, 3)):
        _stroke(image, source)
    one = _hue(source, *letters) if source.random() < 0.3 else None
    room = _room(*image.size, swing)
    for mask, place in _lay_out(task.text, fonts, source, room, tilt=20, jump=0.08, gaps=(-0.02, 0.1)):
        image.paste(one or _hue(source, *letters), place, mask)
    for _ in range(source.randint(2, 3)):
        _stroke(image, source)
    return _png(_warp(image, swing, source).reduce(FINE))


def _mixed(task: Task) -> bytes:
    """Each picture in one of the other styles but `package`, as that style alone would paint it."""
    others = [style for name, style in STYLES.items() if name not in ("package", "mixed")]
    return random.Random(f"{task.seed}:style").choice(others)(task)


STYLES: dict[str, Callable[[Task], bytes]] = {
    "classic": _classic,
    "package": _package,
    "clean": _clean,
    "wavy": _wavy,
    "colour": _colour,
    "mixed": _mixed,
}


@lru_cache(maxsize=16)
def fonts_for(charset: str) -> list[str]:
    """The font files that have every character; TeX's put others of their own at the codes beyond ASCII."""
    names = (*DEJAVU, *OTHERS, *STIX, *(TEX if charset.isascii() else ()))
    paths = [*captcha.image.DEFAULT_FONTS, *(str(SHIPPED / name) for name in names)]
    return [path for path in paths if set(map(ord, charset)) <= FT2Font(path).get_charmap().keys()]


@lru_cache(maxsize=128)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _sheet(
    mode: str, task: Task, source: random.Random, ground: int | tuple[int, int, int]
) -> tuple[Image.Image, list[ImageFont.FreeTypeFont]]:
    """The fine canvas, and a font for each letter, all of one size."""
    height, width = (FINE * side for side in task.image_size)
    size = round(source.choice(FONT_SHARES) * height)
    fonts = [_font(source.choice(fonts_for(task.charset)), size) for _ in task.text]
    return Image.new(mode, (width, height), ground), fonts


def _room(width: int, height: int, swing: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of where letters may stand, pixels; `swing` is how far they may be moved later."""
    margin = 0.05 * height + swing
    return margin, margin, width - margin, height - margin


def _lay_out(
    text: str,
    fonts: Sequence[ImageFont.FreeTypeFont],
    source: random.Random,
    room: tuple[float, float, float, float],
    *,
    tilt: float,  # degrees, at most
    jump: float,  # off the base line at most; and below: shares of the font size
    gaps: tuple[float, float],  # between two letters
) -> list[tuple[Image.Image, tuple[int, int]]]:
    """Masks of the letters and their (left, top), pixels: on one base line, smaller where they would leave the room."""
    left, top, right, bottom = room
    masks, tops = [], []
    for letter, font in zip(text, fonts, strict=True):
        mask, height = _letter(letter, font, source.uniform(-tilt, tilt))
        masks.append(mask)
        tops.append(height + source.uniform(-jump, jump) * font.size)
    steps = [mask.width + source.uniform(*gaps) * font.size for mask, font in zip(masks, fonts, strict=True)]
    long = sum(steps[:-1]) + masks[-1].width
    high = max(y + mask.height for y, mask in zip(tops, masks, strict=True)) - min(tops)
    narrow = min(1, (right - left) / long, (bottom - top) / high)
    low = min((bottom - top) / high, math.sqrt(narrow))  # letters in a narrow picture are rather slim than small
    x = left + source.random() * (right - left - narrow * long)
    base = top - low * min(tops) + source.random() * (bottom - top - low * high)
    placed = []
    for mask, y, step in zip(masks, tops, steps, strict=True):
        size = (max(1, int(mask.width * narrow)), max(1, int(mask.height * low)))
        placed.append((mask.resize(size, Image.Resampling.BILINEAR), (int(x), int(base + low * y))))
        x += narrow * step
    return placed


def _letter(letter: str, font: ImageFont.FreeTypeFont, angle: float) -> tuple[Image.Image, float]:
    """The letter as a mask without empty edges, turned by `angle` degrees; and its top relative to the base line, pixels."""
    left, top, right, bottom = (round(side) for side in font.getbbox(letter, anchor="ls"))
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), letter, fill=255, font=font, anchor="ls")
    mask = mask.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    box = mask.getbbox() or (0, 0, *mask.size)
    return mask.crop(box), (top + bottom - mask.height) / 2 + box[1]


def _warp(image: Image.Image, swing: float, source: random.Random) -> Image.Image:
    """Moves columns up and down along a sine, by up to `swing` pixels, and rows to and fro by up to the half of it."""
    width, height = image.size
    down = _wave(width, swing, source.uniform(2, 4) * height, source)
    across = _wave(height, swing / 2, source.uniform(1, 2) * height, source)
    rows = np.clip(np.arange(height)[:, None] + down[None, :], 0, height - 1)  # (H, W) where each pixel comes from
    columns = np.clip(np.arange(width)[None, :] + across[:, None], 0, width - 1)  # (H, W)
    return Image.fromarray(np.asarray(image)[rows, columns])


def _wave(long: int, swing: float, period: float, source: random.Random) -> np.ndarray:
    """(long,) whole numbers along a sine, all in pixels; by `math`, for NumPy's sine differs between processors."""
    phase = source.uniform(0, 2 * math.pi)
    return np.array([round(swing * math.sin(phase + 2 * math.pi * place / period)) for place in range(long)])


def _stroke(image: Image.Image, source: random.Random) -> None:
    """A line from edge to edge, or an arc of an ellipse."""
    width, height = image.size
    colour, thick = _hue(source, (0.3, 1), (0.4, 0.9)), max(FINE, round(source.uniform(0.02, 0.035) * height))
    if source.random() < 0.5:
        ends = (0, source.uniform(0, height), width, source.uniform(0, height))
        ImageDraw.Draw(image).line(ends, fill=colour, width=thick)
        return
    x, y = source.uniform(0, 0.6) * width, source.uniform(-0.3, 0.6) * height
    box = (x, y, x + source.uniform(0.2, 0.6) * width, y + source.uniform(0.4, 1) * height)
    start = source.uniform(0, 360)
    ImageDraw.Draw(image).arc(box, start, start + source.uniform(120, 300), fill=colour, width=thick)


def _hue(source: random.Random, saturation: tuple[float, float], value: tuple[float, float]) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(source.random(), source.uniform(*saturation), source.uniform(*value))
    return round(255 * red), round(255 * green), round(255 * blue)


def _gray(ink: Image.Image, dark: int, light: tuple[int, int]) -> Image.Image:
    """Ink, 255 where it is full, as gray levels on a ground that goes from one level at the left to one at the right."""
    level = np.asarray(ink, dtype=np.int64)  # (H, W)
    ground = light[0] + (light[1] - light[0]) * np.arange(ink.width) // ink.width  # (W,)
    return Image.fromarray((ground + (dark - ground) * level // 255).astype(np.uint8))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()
