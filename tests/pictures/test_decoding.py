"""Files decoded: what each turned out to be, every damage found, every mode as a person sees it, and nothing done twice."""

import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import decoding
from helpers.pictures import opening as pictures
from helpers.pictures.decoding import NO_IMAGE, Picture, decode, images_differ_in_shape, look_at
from helpers.pictures.opening import UNREADABLE, open_picture
from helpers.pictures.view import WIDTH_STEP, prepare
from tests.captchas import encoded, halves, noise, pack, write, write_all

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # what Pillow says of damaged files
SIZE = (8, 12)  # (height, width), pixels: what `noise` has, so that nothing is scaled


def look(content: bytes) -> str:
    """The digest of what a file shows, which must be readable."""
    picture = look_at(content, SIZE, 3)
    assert not picture.problem
    return picture.look


def put(folder: Path, **contents: bytes) -> list[Path]:
    """Files of these contents, `name.png` each."""
    paths = [folder / f"{name}.png" for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content)
    return paths


def same(found: list[Picture], expected: list[Picture]) -> bool:
    return found == expected and all(
        np.array_equal(a.image, b.image) and a.image.dtype == b.image.dtype == np.uint8
        for a, b in zip(found, expected, strict=True)
    )


# --- facts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "mode", "format"),
    [
        ("png", "RGB", "PNG"),
        ("png", "L", "PNG"),
        ("jpeg", "RGB", "JPEG"),
        ("jpeg", "CMYK", "JPEG"),
        ("gif", "P", "GIF"),
        ("bmp", "RGB", "BMP"),
        ("webp", "RGB", "WEBP"),
        ("tiff", "RGBA", "TIFF"),
    ],
)
@pytest.mark.parametrize("name", ["x.png", "x.JPG", "x"])
def test_facts_are_those_of_the_content_and_not_of_the_name(
    tmp_path: Path, suffix: str, mode: str, format: str, name: str
) -> None:
    (tmp_path / name).write_bytes(encoded(noise().convert(mode), suffix))
    (picture,) = decode([tmp_path / name], (4, 6), 1)
    assert (picture.format, picture.mode, picture.size, picture.frames) == (format, mode, (12, 8), 1)
    assert picture.problem == "" and picture.image.shape == (4, 6, 1) and picture.image.dtype == np.uint8


def test_an_animation_is_known_by_its_frames(tmp_path: Path) -> None:
    frames = [noise(seed=seed).convert("P") for seed in range(3)]
    content = encoded(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert look_at(content, SIZE, 3).frames == 3
    assert look(content) == look(encoded(frames[0], "gif"))


def test_what_is_decoded_is_what_the_reader_sees(tmp_path: Path) -> None:
    for channels in (1, 3):
        for keep_aspect in (False, True):
            image = look_at(encoded(noise((50, 20))), (10, 40), channels, keep_aspect).image
            assert np.array_equal(image, prepare(noise((50, 20)), (10, 40), channels, keep_aspect))


def test_order_is_kept_and_bad_files_stay_in_their_place(tmp_path: Path) -> None:
    paths = [path for gray in range(100) for path in (tmp_path / f"{gray}.png", tmp_path / f"bad{gray}.png")]
    for gray in range(100):
        write(tmp_path / f"{gray}.png", gray)
        (tmp_path / f"bad{gray}.png").write_bytes(b"no picture" * (gray % 2))
    (tmp_path / "bad7.png").unlink()
    found = decode(paths, (4, 6), 1)
    assert [picture.image.max() for picture in found[::2]] == [*range(100)]
    assert not any(picture.problem for picture in found[::2]) and all(picture.problem for picture in found[1::2])
    assert all(picture.image.size == 0 and not picture.look and not picture.format for picture in found[1::2])
    assert "no image format" in found[3].problem and "empty" in found[1].problem
    assert "bad7.png" in found[15].problem and not found[15].content


def test_files_in_a_zip_are_decoded_too(tmp_path: Path) -> None:
    archive = pack(write_all(tmp_path / "in", range(20)), tmp_path / "x.zip")
    found = decode([archive / f"{gray:04d}.png" for gray in range(21)], (4, 6), 1)
    assert [picture.image.max() for picture in found[:20]] == [*range(20)]
    assert "x.zip holds no 0020.png" in found[20].problem


def test_a_damaged_zip_member_has_a_problem(tmp_path: Path) -> None:
    write_all(tmp_path / "in", range(3))
    levels = np.random.default_rng(0).integers(4, size=(64, 64), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "in" / "x.bmp")  # compressible, so that the zip deflates it
    archive = pack(tmp_path / "in", tmp_path / "x.zip")
    with zipfile.ZipFile(archive) as file:
        start = file.getinfo("x.bmp").header_offset + 30 + len("x.bmp")
    content = bytearray(archive.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    archive.write_bytes(content)
    found = decode([archive / "0000.png", archive / "x.bmp"], (4, 6), 1)
    assert not found[0].problem and found[1].problem


def test_digests_of_contents(tmp_path: Path) -> None:
    one, copy, other, form = decode(
        put(tmp_path, a=encoded(noise()), b=encoded(noise()), c=encoded(noise(seed=1)), d=encoded(noise(), "bmp")),
        SIZE,
        3,
    )
    assert one.content == copy.content and len({one.content, other.content, form.content}) == 3


GRAY = noise().convert("L")
BLACK_WHITE = GRAY.convert("1")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (encoded(noise()), encoded(noise(), "bmp")),
        (encoded(noise()), encoded(noise(), "tiff", compression="tiff_lzw")),
        (encoded(noise()), encoded(noise(), "webp", lossless=True)),
        (encoded(noise()), encoded(noise(), compress_level=0)),
        (encoded(noise()), encoded(noise().convert("RGBA"))),
        (encoded(GRAY), encoded(GRAY.convert("RGB"))),
        (encoded(GRAY), encoded(GRAY.convert("P"))),
        (encoded(GRAY), encoded(GRAY, "gif")),
        (encoded(GRAY), encoded(GRAY.convert("LA"))),
        (encoded(GRAY.convert("LA")), encoded(GRAY.convert("RGBA"))),
        (encoded(BLACK_WHITE), encoded(BLACK_WHITE.convert("L"))),
        (encoded(BLACK_WHITE), encoded(BLACK_WHITE.convert("RGB"), "bmp")),
    ],
    ids=[
        *("bmp", "tiff", "webp", "compression", "RGBA", "RGB of L", "P of L", "gif of L", "LA of L", "LA and RGBA"),
        *("L of 1", "RGB of 1"),
    ],
)
def test_files_that_show_the_same_look_equal(first: bytes, second: bytes) -> None:
    assert first != second and look(first) == look(second)


def test_files_that_show_something_else_look_different() -> None:
    pixels = np.asarray(noise()).copy()
    pixels[3, 5, 1] ^= 1
    see_through = noise().convert("RGBA")
    see_through.putpixel((5, 3), (0, 0, 0, 128))
    shapes = [Image.fromarray(np.asarray(noise()).reshape(height, -1, 3)) for height in (4, 8, 16)]  # the same bytes
    shown = [encoded(picture) for picture in (*shapes, Image.fromarray(pixels), see_through, GRAY)]
    assert len({look(content) for content in shown}) == len(shown)


def test_a_picture_that_is_to_be_turned_looks_different() -> None:
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    assert look(encoded(noise(), exif=upside_down)) != look(encoded(noise()))
    assert look(encoded(noise(), exif=upside_down)) == look(encoded(noise().rotate(180)))


def test_whether_shapes_differ() -> None:
    def of(*sizes: tuple[int, int]) -> list[Picture]:
        return [Picture(size=size) for size in sizes]

    assert not images_differ_in_shape(of((100, 40), (200, 80), (105, 40)))  # larger and smaller, but of one shape
    assert images_differ_in_shape(of((100, 40), (115, 40))) and images_differ_in_shape(of((72, 24), (24, 72)))
    assert not images_differ_in_shape([Picture(problem="gone"), *of((100, 40))]) and not images_differ_in_shape([])


# --- modes and depths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *(("png", mode) for mode in ("1", "L", "LA", "P", "P transparent", "RGB", "RGB transparent", "RGBA", "I;16")),
        *(("tiff", mode) for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I", "F")),
        *(("gif", mode) for mode in ("L", "P", "P transparent")),
        *(("jpeg", mode) for mode in ("L", "RGB", "CMYK")),
        *(("bmp", mode) for mode in ("1", "L", "P", "RGB")),
        *(("webp", mode) for mode in ("L", "RGB", "RGBA")),
    ],
)
def test_every_mode_is_seen_alike(suffix: str, mode: str, channels: int) -> None:
    original = halves(mode)
    options = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0} if suffix == "jpeg" else {}
    picture = look_at(encoded(original, suffix, **original.info | options), SIZE, channels)
    assert picture.problem == "" and picture.image.shape == (8, 12, channels)
    off = 4 if suffix == "jpeg" else 0  # its colours are rounded
    assert picture.image[:, :6].max() <= off and picture.image[:, 6:].min() >= 255 - off


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_and_not_clipped(suffix: str) -> None:
    levels = np.arange(0, 96, dtype=np.uint16).reshape(8, 12)
    for scale in (257, 600, 1):  # what stays below 256 was 8 bits already
        image = look_at(encoded(Image.fromarray(levels * scale), suffix), SIZE, 1).image[..., 0]
        expected = levels if scale == 1 else levels * scale / 257
        assert np.abs(image - expected).max() <= 0.51


@pytest.mark.parametrize(
    "levels", [[-1.0, 0.0], [0.0, 300.0], [0.0, float("nan")], [0.0, float("inf")], [-0.5, 0.5]], ids=str
)
def test_floats_without_a_known_range_are_a_problem(levels: list[float]) -> None:
    pixels = np.resize(np.array(levels, np.float32), (8, 12))
    picture = look_at(encoded(Image.fromarray(pixels), "tiff"), SIZE, 1)
    assert "mode F" in picture.problem and "no known range" in picture.problem and picture.image.size == 0


def test_whole_numbers_without_a_known_range_are_a_problem() -> None:
    for level in (-1, 70_000):
        pixels = np.full((8, 12), level, np.int32)
        assert "no known range" in look_at(encoded(Image.fromarray(pixels), "tiff"), SIZE, 1).problem


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
@pytest.mark.parametrize("suffix", ["png", "jpeg", "tiff", "webp"])
def test_exif_orientation_is_applied(suffix: str, orientation: int, quarter_turns: int) -> None:
    corners = Image.new("L", (32, 16))
    corners.paste(255, (0, 0, 16, 8))  # the first quarter is white
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = look_at(encoded(corners.convert("RGB"), suffix, exif=exif), (16, 16), 1)
    seen = np.rot90([[255, 0], [0, 0]], quarter_turns)  # counter-clockwise
    centres = picture.image[4::8, 4::8, 0].astype(int)
    assert np.abs(centres - seen).max() < 20


def test_pictures_that_keep_their_aspect_fill_whole_steps() -> None:
    for width in (1, 3, 19, 20, 21, 90, 300):
        original = noise((width, 20), seed=width)
        image = look_at(encoded(original), (10, 999), 3, keep_aspect=True).image
        own = max(1, round(width / 2))
        assert image.shape == (10, -(-own // WIDTH_STEP) * WIDTH_STEP, 3)
        assert np.array_equal(image[:, :own], prepare(original, (10, own), 3))
        assert (image[:, own:] == image[:, own - 1 : own]).all()


# --- damage ----------------------------------------------------------------------------------------------------------

FILES = {
    "png": encoded(noise()),
    "png, palette": encoded(noise().convert("P")),
    "jpeg": encoded(noise(), "jpeg"),
    "jpeg, progressive": encoded(noise(), "jpeg", progressive=True),
    "jpeg, CMYK": encoded(noise().convert("CMYK"), "jpeg"),
    "gif": encoded(noise().convert("P"), "gif"),
    "bmp": encoded(noise(), "bmp"),
    "webp": encoded(noise(), "webp"),
    "webp, lossless": encoded(noise(), "webp", lossless=True),
    "tiff": encoded(noise(), "tiff"),
    "tiff, LZW": encoded(noise(), "tiff", compression="tiff_lzw"),
}


def flipped(content: bytes, masks: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    """(place, content with other bits there), for every place."""
    for place in range(len(content)):
        for mask in masks:
            yield place, content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_was_cut_anywhere_is_a_problem(kind: str) -> None:
    """Or shows the very same, where the cut took a mark of the end and no pixels."""
    content = FILES[kind]
    whole = [length for length in range(len(content)) if not look_at(content[:length], SIZE, 3).problem]
    assert all(look(content[:length]) == look(content) for length in whole)
    assert len(whole) <= 2 and (kind == "gif" or not whole)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_ends_early_with_the_mark_of_its_end_is_a_problem(mode: str, progressive: bool) -> None:
    """Pillow fills the rest with gray and says nothing."""
    content = encoded(noise((64, 32)).convert(mode), "jpeg", progressive=progressive)
    assert not look_at(content, SIZE, 3).problem
    for length in (len(content) - 10, len(content) * 3 // 4):
        assert look_at(content[:length] + content[-2:], SIZE, 3).problem


@pytest.mark.parametrize("kind", FILES)
def test_opening_a_picture_reads_it_whole(tmp_path: Path, kind: str) -> None:
    """So that nothing is left that could fail where it is used."""
    path = tmp_path / "x.png"
    for share in (1 / 4, 1 / 2, 9 / 10):
        path.write_bytes(FILES[kind][: int(share * len(FILES[kind]))])
        with pytest.raises(UNREADABLE):
            open_picture(path)
    path.write_bytes(FILES[kind])
    assert open_picture(path).size == (12, 8)


def test_a_picture_of_more_pixels_than_any_captcha_has_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a damaged header may claim, for which there may be no memory."""
    monkeypatch.setattr(pictures, "MAX_PIXELS", 96)
    assert not look_at(encoded(noise((12, 8))), SIZE, 3).problem
    assert "13 x 8 pixels are no captcha" in look_at(encoded(noise((13, 8))), SIZE, 3).problem


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind.startswith("png")])
def test_a_png_with_a_wrong_byte_is_a_problem(kind: str) -> None:
    """Wherever it stands, but for the length of the last chunk, which has none."""
    content = FILES[kind]
    unnoticed = {place for place, wrong in flipped(content, (1, 128, 255)) if not look_at(wrong, SIZE, 3).problem}
    assert unnoticed <= {*range(len(content) - 12, len(content) - 8)}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", FILES)
def test_no_wrong_byte_stops_the_decoding(kind: str) -> None:
    """Without a checksum a pixel may become another pixel, but no error may escape."""
    for _, wrong in flipped(FILES[kind], (1, 0xFF)):
        picture = look_at(wrong, SIZE, 3)
        assert bool(picture.problem) == (picture.image.size == 0) == (not picture.look)
        assert picture.problem or picture.image.shape == (8, 12, 3)


@pytest.mark.parametrize("suffix", ["png", "jpeg", "gif", "bmp", "webp", "tiff"])
def test_content_that_only_begins_like_a_picture_is_a_problem(suffix: str) -> None:
    for length in (2, 4, 8, 20):
        assert look_at(encoded(noise().convert("P" if suffix == "gif" else "RGB"), suffix)[:length], SIZE, 3).problem
    assert look_at(encoded(noise(), suffix)[:16] + bytes(500), SIZE, 3).problem


# --- the cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The contents that were decoded, since the list was last cleared."""
    contents: list[bytes] = []

    def open_picture(content: bytes) -> Image.Image:
        contents.append(content)
        return original(content)

    original = decoding.open_picture
    monkeypatch.setattr(decoding, "open_picture", open_picture)
    return contents


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Pictures of several widths, and among them two that cannot be read."""
    sizes = [(12, 8), (30, 8), (45, 10), (7, 9)]
    contents = {
        f"p{i}": encoded(noise(size, i).convert(mode))
        for i, (size, mode) in enumerate(zip(sizes, ("L", "RGB", "P", "RGBA"), strict=True))
    }
    (tmp_path / "in").mkdir()
    return put(tmp_path / "in", **contents, bad=b"no picture", empty=b"")


def silent(*arguments: object, **keywords: object) -> list[Picture]:
    """`decode`, where it must not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return decode(*arguments, **keywords)


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_second_call_decodes_nothing(
    tmp_path: Path, files: list[Path], opened: list[bytes], channels: int, keep_aspect: bool
) -> None:
    cache = tmp_path / "new" / "cache.npz"
    plain = silent(files, (8, 20), channels, keep_aspect)
    opened.clear()
    first = silent(files, (8, 20), channels, keep_aspect, cache=cache)
    assert same(first, plain) and len(opened) == len(files)
    opened.clear()
    written = cache.stat().st_mtime_ns
    second = silent(files, (8, 20), channels, keep_aspect, cache=cache)
    assert same(second, plain) and opened == [] and cache.stat().st_mtime_ns == written
    assert len({picture.image.shape for picture in second}) == (
        4 if keep_aspect else 2
    )  # one is of those without pixels
    assert [path.name for path in cache.parent.iterdir()] == ["cache.npz"]  # and no part of it


def test_only_what_is_new_is_decoded(tmp_path: Path, files: list[Path], opened: list[bytes]) -> None:
    cache = tmp_path / "cache.npz"
    silent(files, SIZE, 3, cache=cache)
    opened.clear()
    files[1].write_bytes(encoded(noise(seed=9)))  # changed, of the same name
    files[2] = files[2].rename(files[2].with_name("renamed.png"))  # the same under another name
    files = [*put(tmp_path, added=encoded(noise(seed=10))), *files[::-1]]
    found = silent(files, SIZE, 3, cache=cache)
    assert sorted(opened) == sorted([files[0].read_bytes(), encoded(noise(seed=9))])
    assert same(found, silent(files, SIZE, 3))
    opened.clear()
    assert same(silent(files, SIZE, 3, cache=cache), found) and opened == []


def test_files_that_went_leave_the_cache_with_the_next_change(
    tmp_path: Path, files: list[Path], opened: list[bytes]
) -> None:
    cache = tmp_path / "cache.npz"
    silent(files, SIZE, 3, cache=cache)
    silent([*files[:1], *put(tmp_path, added=encoded(noise(seed=10)))], SIZE, 3, cache=cache)
    opened.clear()
    silent(files, SIZE, 3, cache=cache)
    assert len(opened) == len(files) - 1


def test_files_that_are_missing_are_looked_for_again(tmp_path: Path, files: list[Path]) -> None:
    missing = tmp_path / "late.png"
    assert silent([*files, missing], SIZE, 3, cache=tmp_path / "cache.npz")[-1].problem
    write(missing)
    assert not silent([*files, missing], SIZE, 3, cache=tmp_path / "cache.npz")[-1].problem


def damage(cache: Path, how: str) -> None:
    content = cache.read_bytes()
    if how == "pickle":
        np.savez(cache, facts=np.array([{"made_by": "?"}], dtype=object), pixels=np.zeros(3, np.uint8))
    elif how == "npy":
        with cache.open("wb") as file:
            np.save(file, np.zeros(3))
    elif how == "other arrays":
        np.savez(cache, something=np.zeros(3))
    elif how == "fewer pixels":
        with np.load(cache) as arrays:
            np.savez(cache, facts=arrays["facts"], pixels=arrays["pixels"][:-50])
    elif how == "flipped pixels":
        place = len(content) // 3
        cache.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    elif how == "another compression":  # in the zip's directory
        place = content.index(b"PK\x01\x02") + 10
        cache.write_bytes(content[:place] + b"\x63" + content[place + 1 :])
    elif how == "encrypted":
        place = content.index(b"PK\x01\x02") + 8
        cache.write_bytes(content[:place] + bytes([content[place] | 1]) + content[place + 1 :])
    else:
        cache.write_bytes({"empty": b"", "no cache": b"no cache at all", "cut": content[: len(content) // 2]}[how])


@pytest.mark.parametrize(
    "how",
    [
        *("empty", "no cache", "cut", "pickle", "npy", "other arrays", "fewer pixels", "flipped pixels"),
        *("another compression", "encrypted"),
    ],
)
def test_a_damaged_cache_is_made_anew_with_a_warning(
    tmp_path: Path, files: list[Path], opened: list[bytes], how: str
) -> None:
    cache = tmp_path / "cache.npz"
    expected = silent(files, SIZE, 3, cache=cache)
    damage(cache, how)
    opened.clear()
    with pytest.warns(UserWarning, match=r"cache.npz is damaged .*: decoding again"):
        assert same(decode(files, SIZE, 3, cache=cache), expected)
    assert len(opened) == len(files)
    opened.clear()
    assert same(silent(files, SIZE, 3, cache=cache), expected) and opened == []


def test_a_cache_of_other_code_is_made_anew(
    tmp_path: Path, files: list[Path], opened: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache.npz"
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "look_at", lambda *_: Picture(look="of yesterday"))
        assert silent(files, SIZE, 3, cache=cache)[0].look == "of yesterday"
    found = silent(files, SIZE, 3, cache=cache)
    assert same(found, silent(files, SIZE, 3))
    monkeypatch.setattr(decoding.PIL, "__version__", "0.1")
    opened.clear()
    silent(files, SIZE, 3, cache=cache)
    assert len(opened) == len(files)


@pytest.mark.filterwarnings("ignore:.*is damaged:UserWarning")
@pytest.mark.parametrize("obstacle", ["file", "folder"])
def test_a_cache_that_cannot_be_written_costs_a_warning_and_no_more(
    tmp_path: Path, files: list[Path], obstacle: str
) -> None:
    if obstacle == "file":  # where the folder of the cache should be
        (tmp_path / "in the way").write_text("")
        cache = tmp_path / "in the way" / "cache.npz"
    else:
        cache = tmp_path / "in the way"
        cache.mkdir()
    with pytest.warns(UserWarning, match="cannot be written .*: the next run decodes again"):
        found = decode(files, SIZE, 3, cache=cache)
    assert same(found, silent(files, SIZE, 3))
    assert not list(tmp_path.glob("**/*.part"))


def test_a_full_disk_costs_a_warning_and_leaves_the_old_cache(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch, opened: list[bytes]
) -> None:
    cache = tmp_path / "cache.npz"
    silent(files[:3], SIZE, 3, cache=cache)

    def full(file: object, **_: object) -> None:
        file.write(b"a part of it")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(decoding.np, "savez", full)
        with pytest.warns(UserWarning, match="no space left on device"):
            decode(files, SIZE, 3, cache=cache)
    assert not list(tmp_path.glob("**/*.part"))
    opened.clear()
    silent(files[:3], SIZE, 3, cache=cache)
    assert opened == []


def test_without_a_cache_nothing_is_written(tmp_path: Path, files: list[Path]) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    silent(files, SIZE, 3)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_nothing_to_decode(tmp_path: Path) -> None:
    assert silent([], SIZE, 3) == silent([], SIZE, 3, cache=tmp_path / "cache.npz") == []


def test_pictures_without_pixels_are_told_apart_by_their_problem() -> None:
    bad = look_at(b"", SIZE, 3)
    assert bad == replace(bad, image=NO_IMAGE) and bad.image.shape == (0, 0, 0)
