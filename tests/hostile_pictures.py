"""Pictures, zips, tables and folders as a stranger might send them, made by seeded generators, and what reading them costs.

A maker draws from a random generator, fills a folder and returns what is to be read. Each is read by a process of its
own, which may have BYTES of address space and SECONDS of processor time:

    python -m tests.hostile_pictures --count 10 --seed 1

prints a row per kind: how many were made, how many were survived, the most time and memory that one took.
"""

import argparse
import json
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from helpers.output import printable, shown
from helpers.pictures.decoding import decode
from helpers.pictures.files import DataError, list_pictures
from helpers.pictures.opening import is_picture
from helpers.sources.samples import find_samples
from tests.captchas import encoded, noise

BYTES, SECONDS = 1_000_000_000, 10  # of address space, in which all that was imported stands too; of processor time
Maker = Callable[[random.Random, Path], Path]
Content = Callable[[random.Random], bytes]
Pairs = Sequence[tuple[bytes, bytes]]


# --- contents of pictures ---------------------------------------------------------------------------------------------


def png(chunks: Pairs) -> bytes:
    """Of these chunks, with right checksums."""
    made = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def header(width: int, height: int, bits: int = 8, color: int = 0, interlaced: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)


def small_png(*between: tuple[bytes, bytes]) -> bytes:
    """One gray pixel, and chunks before it."""
    return png([header(1, 1), *between, (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")])


def blank_png(draw: random.Random) -> bytes:
    """Some kilobytes that are up to ten million pixels."""
    bits, color = draw.choice([(8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (8, 4), (16, 4), (8, 6), (16, 6)])
    width = draw.randint(1_000, 5_000)
    height = draw.randint(100, 10_000_000 // width)
    row = bytes(1 + width * bits // 8 * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color])
    palette = [(b"PLTE", bytes(3))] * (color == 3)
    return png([header(width, height, bits, color), *palette, (b"IDAT", zlib.compress(row * height)), (b"IEND", b"")])


def declared_png(draw: random.Random) -> bytes:
    """More pixels than there is memory, or data for a thousand times the pixels."""
    if draw.random() < 0.5:
        sides = [draw.choice([1, 4_000, 2**16, 2**31 - 1]) for _ in range(2)]
        return png([header(*sides, draw.choice([1, 8, 16]), draw.choice([0, 2, 6])), (b"IDAT", b"x"), (b"IEND", b"")])
    return png([header(9, 9), (b"IDAT", zlib.compress(bytes(draw.randint(10, 300) * 10**6))), (b"IEND", b"")])


def chunks_png(draw: random.Random) -> bytes:
    """Hundreds of thousands of chunks."""
    kind, content = draw.choice([(b"tEXt", b"a\0b"), (b"IDAT", b""), (b"abCd", b""), (b"fcTL", b"x" * 26)])
    return small_png(*[(kind, content)] * draw.randint(10_000, 250_000))


def texts_png(draw: random.Random) -> bytes:
    """Texts and colour profiles that unpack to a thousand times their bytes."""
    packed = zlib.compress(bytes(draw.randint(1, 100) * 10**6), 9)
    kinds = {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}
    kind = draw.choice([*kinds])
    return small_png(*[(kind, kinds[kind] + packed)] * draw.randint(1, 20))


def scans_jpeg(draw: random.Random) -> bytes:
    """Passes over all pixels, bit by bit of each coefficient as the standard allows: all gray, all zero."""
    side = draw.choice([16, 1_000, 3_000])
    blocks = (side + 7) // 8 * ((side + 7) // 8)
    frame = struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0)
    codes = [bytes([table, 1, *bytes(15), symbol]) for table, symbol in ((0, 0), (0x10, 0xE0))]  # code 0: this symbol
    head = [(0xDB, b"\0" + b"\1" * 64), (0xC2, frame), *((0xC4, code) for code in codes)]
    runs = "0" + "1" * 14  # 0xE0 and 14 bits: none in the next 32,767 blocks
    passes = [(0, 0, 0, "0" * blocks)]
    for band in range(1, 64):
        passes += [(band, 0, 13, runs * -(-blocks // 32_767))]
        passes += [(band, low + 1, low, runs * -(-blocks // 32_767)) for low in range(12, -1, -1)]
    content = b"\xff\xd8" + b"".join(b"\xff" + bytes([kind]) + struct.pack(">H", 2 + len(d)) + d for kind, d in head)
    for band, high, low, bits in passes[: draw.choice([10, 49, 50, len(passes)])]:
        bits += "1" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
        content += b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, band, band, 16 * high + low) + data
    return content + b"\xff\xd9"


def segments_jpeg(draw: random.Random) -> bytes:
    """Many segments, Exif and MPF among them, of nonsense."""
    content = encoded(noise((30, 20)), "jpeg")
    kinds = [b"\xff\xe1", b"\xff\xe2", b"\xff\xed", b"\xff\xfe"] + [b"\xff\xdb", b"\xff\xc4"] * (draw.random() < 0.2)
    starts = [b"Exif\0\0", b"MPF\0", b"Photoshop 3.0\0", b"ICC_PROFILE\0", b""]
    body = b""
    for _ in range(draw.randint(1, 2_000)):
        data = draw.choice(starts) + draw.choice([b"II*\0", b"MM\0*", b""]) + draw.randbytes(draw.randint(0, 200))
        body += draw.choice(kinds) + struct.pack(">H", 2 + len(data)) + data
    return content[:2] + body + content[2:]


def frames_gif(draw: random.Random) -> bytes:
    """A hundred thousand frames, each a few bytes; at times larger than the first."""
    content = encoded(Image.new("L", (1, 1)), "gif")
    start = content.index(b",")
    frame = bytearray(content[start:-1])
    frame[5:9] = struct.pack("<HH", *draw.choice([(1, 1), (3_000, 3_000), (65_535, 65_535)]))
    return content[:start] + content[start:-1] + bytes(frame) * draw.randint(1, 100_000) + b";"


def entries(tags: Sequence[tuple[int, int, int, int]], following: int = 0) -> bytes:
    """A directory of a TIFF: (tag, type, count, value)."""
    return (
        struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *e) for e in tags) + struct.pack("<I", following)
    )


GRAY = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (262, 3, 1, 1)]


def chain_tiff(draw: random.Random) -> bytes:
    """Directories in a chain, at times a circle, at times with nothing in them."""
    tags = [*GRAY, (259, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 256)] if draw.random() < 0.7 else []
    first, length = entries([*GRAY, (273, 4, 1, 8), (279, 4, 1, 256)]), len(entries(tags))
    start, count = 8 + 256 + len(first), draw.randint(2, 3_900_000 // length)
    content = b"II*\0" + struct.pack("<I", 264) + bytes(256) + first[:-4] + struct.pack("<I", start)
    chain = (entries(tags, start + length * (place + 1)) for place in range(count - 1))
    return content + b"".join(chain) + entries(tags, draw.choice([0, start, 264]))


def tile_tiff(draw: random.Random) -> bytes:
    """A few pixels in a tile that would fill the memory."""
    data = zlib.compress(bytes(draw.randint(1, 100) * 10**6), 9)
    sides = [draw.choice([16, 3_000, 30_000, 2**31]) for _ in range(2)]
    place, compression = 8, draw.choice([1, 5, 8, 32773])
    tags = [*GRAY[:3], (259, 3, 1, compression), GRAY[3], (277, 3, 1, 1), (322, 4, 1, sides[0]), (323, 4, 1, sides[1])]
    tags += [(324, 4, 1, place), (325, 4, 1, len(data))]
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + entries(tags)


def strips_tiff(draw: random.Random) -> bytes:
    """A million strips of a few pixels."""
    count = draw.randint(5_000, 900_000)
    body = struct.pack("<I", 8) * count
    tags = [*GRAY[:3], (259, 3, 1, draw.choice([1, 5])), GRAY[3], (273, 4, count, 8), (274, 3, 1, draw.randint(1, 9))]
    tags += [(278, 4, 1, 1), (279, 4, count, 8)]
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + entries(tags)


def tags_tiff(draw: random.Random) -> bytes:
    """Tags of any kind that say they are huge."""
    numbers = [draw.choice([draw.randint(254, 340), 700, 34665, 34853, 50838]) for _ in range(draw.randint(1, 60))]
    huge = [0, 1, 2, 1_000, 10**6, 2**31, 2**32 - 1]
    tags = [(n, draw.randint(1, 13), draw.choice(huge), draw.choice(huge)) for n in sorted(numbers)]
    known = [*GRAY, (273, 4, 1, 8), (279, 4, 1, 256)] * (draw.random() < 0.7)
    place = draw.choice([0, len(tags)])
    return (
        b"II*\0"
        + struct.pack("<I", 264)
        + bytes(256)
        + entries([*tags[:place], *known, *tags[place:]], draw.choice(huge))
    )


def head_bmp(draw: random.Random) -> bytes:
    """Any numbers in the header, run lengths behind it."""
    sides = [draw.choice([1, 100, 3_000, -3_000, 2**31 - 1]) for _ in range(2)]
    depth, packing = draw.choice([1, 4, 8, 16, 24, 32]), draw.choice([0, 1, 2, 3])
    colors = draw.choice([0, 2, 256, 2**31])
    head = struct.pack("<IiiHHIIiiII", 40, *sides, 1, depth, packing, 0, 1, 1, colors, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + head + draw.randbytes(2_000) * draw.randint(1, 500)


def canvas_webp(draw: random.Random) -> bytes:
    """A canvas of 16,384 x 16,384, with frames or without."""
    plain = encoded(noise((16, 16)), "webp")[12:]
    sides = struct.pack("<I", draw.choice([15, 3_000, 2**14 - 1, 2**24 - 1]))[:3] * 2
    animated = draw.random() < 0.5
    frame = bytes(12) + bytes(3) + b"\0" + plain
    body = b"VP8X" + struct.pack("<I", 10) + bytes([2 * animated, 0, 0, 0]) + sides
    if animated:
        body += b"ANIM" + struct.pack("<I", 6) + bytes(6)
        body += (b"ANMF" + struct.pack("<I", len(frame)) + frame) * draw.randint(1, 1_000)
    return b"RIFF" + struct.pack("<I", 4 + len(body + plain)) + b"WEBP" + body + plain


def other_format(draw: random.Random) -> bytes:
    """What Pillow would open, and the project does not: PostScript among it."""
    known = [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n%%EndComments\n{} loop\n",
        b"P6 99999 99999 255\n",
    ]
    known += [b"\0\0\1\0\1\0" + bytes(40), b"8BPS\0\1" + bytes(40), b"%PDF-1.4\n", b"<svg/>", b"SIMPLE  =  T", b"qoif"]
    formats = [encoded(noise(), name) for name in ("ppm", "tga", "pcx", "ico", "jpeg2000", "dds", "sgi", "eps", "icns")]
    return draw.choice(known + formats) + draw.randbytes(draw.randint(0, 99))


def mutated(draw: random.Random) -> bytes:
    """A good picture with wrong bytes, cut off, or with a piece of it repeated."""
    name = draw.choice(["png", "jpeg", "gif", "bmp", "tiff", "webp"])
    content = bytearray(encoded(noise((40, 20), draw.randrange(9)), name))
    for _ in range(draw.randint(1, 30)):
        place = draw.randrange(min(len(content), draw.choice([60, len(content)])))
        content[place] = draw.choice([0, 1, 255, draw.randrange(256)])
    start, end = sorted(draw.randrange(len(content)) for _ in range(2))
    return bytes(draw.choice([content, content[:end], content[:end] + content[start:end] * 99 + content[end:]]))


def too_large(draw: random.Random) -> bytes:
    return small_png() + bytes(draw.randint(4_000_000, 40_000_000))


CONTENTS: dict[str, Content] = {
    "png: blank": blank_png,
    "png: more than it says": declared_png,
    "png: chunks": chunks_png,
    "png: texts": texts_png,
    "jpeg: scans": scans_jpeg,
    "jpeg: segments": segments_jpeg,
    "gif: frames": frames_gif,
    "tiff: chain": chain_tiff,
    "tiff: tiles": tile_tiff,
    "tiff: strips": strips_tiff,
    "tiff: tags": tags_tiff,
    "bmp: header": head_bmp,
    "webp: canvas": canvas_webp,
    "other formats": other_format,
    "mutated": mutated,
    "too large": too_large,
}


def _pictures(content: Content) -> Maker:
    """A few of them in a folder, beside a good one."""

    def make(draw: random.Random, folder: Path) -> Path:
        for place in range(draw.randint(1, 3)):
            suffix = draw.choice(["png", "jpg", "gif", "tiff", "webp", "bmp"])
            (folder / f"{place}.{suffix}").write_bytes(content(draw))
        (folder / "good.png").write_bytes(encoded(noise()))
        return folder

    return make


# --- files that are none, and folders ---------------------------------------------------------------------------------


def odd_files(draw: random.Random, folder: Path) -> Path:
    """FIFOs, sockets, devices, links that lead there, holes of terabytes."""
    for place in range(draw.randint(1, 6)):
        path = folder / f"{place}{draw.choice(['.png', '.jpg', '.txt', '', '.csv'])}"
        kind = draw.randrange(5)
        if kind == 0:
            os.mkfifo(path)
        elif kind == 1:
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        elif kind == 2:
            places = [
                "/dev/zero",
                "/dev/tty",
                "/dev/stdin",
                "/proc/kmsg",
                "/proc/self/mem",
                "/proc/kcore",
                "/proc/self/fd/0",
            ]
            path.symlink_to(draw.choice([*places, "/sys/power/state", "/", ".", path.name, "absent", "/etc/passwd"]))
        elif kind == 3:
            with path.open("wb") as file:
                file.truncate(draw.choice([10**13, 5 * 10**9, 10**7]))
        else:
            path.mkdir()
    (folder / "good.png").write_bytes(encoded(noise()))
    return folder


def odd_source(draw: random.Random, folder: Path) -> Path:
    """The same, named as the source itself."""
    path = folder / f"source{draw.choice(['.zip', '.csv', '.txt', '.png', '.tsv', ''])}"
    kind = draw.randrange(4)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to(draw.choice(["/dev/zero", "/proc/self/mem", "/proc/kcore", "/dev/tty", path.name]))
    else:
        with path.open("wb") as file:
            if kind == 2:  # as the last bytes of a zip
                file.seek(draw.choice([10**12, 10**8]))
                file.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, draw.choice([46, 2**27, 2**32 - 2]), 0, 0))
            else:
                file.truncate(draw.choice([10**13, 10**9]))
    return path


def deep_folder(draw: random.Random, folder: Path) -> Path:
    """Folders in folders, deeper than a path may be long."""
    here = os.open(folder, os.O_RDONLY)
    name = "d" * draw.choice([1, 50, 200])
    for _ in range(draw.choice([50, 500, 3_000])):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with os.fdopen(os.open("x.png", os.O_WRONLY | os.O_CREAT, dir_fd=here), "wb") as file:
        file.write(encoded(noise()))
    os.close(here)
    return folder


def odd_names(draw: random.Random, folder: Path) -> Path:
    """Names of digits, escapes, marks that stand over one another, bytes that are no text."""
    for _ in range(draw.randint(1, 40)):
        pieces = [
            b"9" * 240,
            b"\x1b[31m",
            b"\xe2\x80\xae",
            b"\xff\xfe",
            b"=cmd",
            b"\n",
            b"\xcc\x81\xcc\xa3",
            b"-1_a",
            b" (1)",
        ]
        name = b"".join(draw.choice(pieces) * draw.choice([1, 9]) for _ in range(draw.randint(1, 4)))[:240]
        with open(os.path.join(os.fsencode(folder), name + b".png"), "wb") as file:
            file.write(encoded(noise()))
    return folder


# --- zips -------------------------------------------------------------------------------------------------------------


def _zip(folder: Path, members: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings(action="ignore"):  # of a name twice
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            archive.writestr(info, content)
    return path


def bomb_zip(draw: random.Random, folder: Path) -> Path:
    """Zeros by any method."""
    method = draw.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    size, count = draw.choice([(10**6, 4), (3 * 10**6, 40), (60 * 10**6, 2), (300 * 10**6, 1)])
    return _zip(folder, [(f"{n}.png", bytes(size)) for n in range(count)], method)


def lying_zip(draw: random.Random, folder: Path) -> Path:
    """Members that are larger, smaller, elsewhere or packed otherwise than the list says; many that are one."""
    path = _zip(folder, [(f"{n}.png", bytes(draw.choice([10, 3 * 10**7]))) for n in range(draw.randint(1, 50))])
    content = bytearray(path.read_bytes())
    place = content.find(b"PK\1\2")
    while place >= 0:
        lies = [(24, "<I", 10), (24, "<I", 2**32 - 2), (20, "<I", 2**31), (42, "<I", 0), (42, "<I", 2**32 - 2)]
        lies += [(8, "<H", 1), (10, "<H", draw.choice([9, 12, 14, 93, 99]))]
        at, form, value = draw.choice(lies)
        struct.pack_into(form, content, place + at, value)
        place = content.find(b"PK\1\2", place + 1)
    path.write_bytes(content)
    return path


def listed_zip(draw: random.Random, folder: Path) -> Path:
    """A list of a million files, or of names as long as names can be."""
    name = draw.choice([b"", b"a", b"../" * 300, *(piece * 30_000 for piece in (b"a/", b"x", b"9", b"\xcc\x81"))])
    most = 60_000_000 // (46 + len(name))
    count = draw.choice([10, 1_000, min(most, 119_000), most, 2 * most])
    numbered = (name + b"%d.png" % n if len(name) < 10 else name for n in range(count))
    path = folder / "set.zip"
    with path.open("wb") as file:
        for each in numbered:
            sizes = (0, 0, 0, len(each), 0, 0, 0, 0, 0, 0)
            file.write(struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0x800, 0, 0, 33, *sizes) + each)
        size = file.tell()
        file.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count % 2**16, count % 2**16, size, 0, 0))
    return path


def damaged_zip(draw: random.Random, folder: Path) -> Path:
    """Wrong bytes anywhere, most of them where the list stands."""
    path = _zip(folder, [(f"{n}.png", encoded(noise(seed=n))) for n in range(5)])
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 20)):
        content[-draw.randint(1, draw.choice([22, 300, len(content)]))] = draw.choice([0, 255, draw.randrange(256)])
    path.write_bytes(content[: draw.choice([len(content), -draw.randint(1, 30)])])
    return path


def named_zip(draw: random.Random, folder: Path) -> Path:
    """Names that lead out, twice the same, that are folders, tables that name devices."""
    names = ["../../etc/passwd.png", "/abs.png", "C:\\x.png", "a\\..\\b.png", "a.png", "a.png/b.png"]
    names += ["\x1b]0;x\x07.png", "\u202ex.png"]
    members = [(draw.choice(names), encoded(noise())) for _ in range(draw.randint(1, 5))]
    path = _zip(folder, [*members, ("labels.csv", b"file,label\n/dev/zero,x\n../../../etc/passwd,y\n")])
    return draw.choice([path, path / "labels.csv"])


# --- tables -----------------------------------------------------------------------------------------------------------


def long_cells(draw: random.Random, folder: Path) -> Path:
    """Cells of 400 kB: digits, marks over one another, spaces, quotes, folders in folders."""
    pieces = [
        "9",
        "a",
        "\u0301\u0323",
        " ",
        "a/",
        "../",
        "\ufdfa",
        "-1",
        "( ",
        "\u202e",
        "=",
        "'",
        "\\u0041",
        ";=",
        "\0",
    ]
    cell = draw.choice(pieces) * draw.choice([1_000, 100_000, 131_000])
    other = draw.choice(["x", cell])
    columns = draw.choice(["file,label", "path,text,confidence", "label", f"file,label,{cell}"])
    (folder / "good.png").write_bytes(encoded(noise()))
    return _table(draw, folder, f"{columns}\ngood.png,{other}\n{cell},{other}\n")


def many_cells(draw: random.Random, folder: Path) -> Path:
    """Columns or rows by the million."""
    line = draw.choice(["a\n", "\n", ",", '"",', "a,b\n", "\r", "a" * 20 + ",", '"', "a\tb\n"])
    first = draw.choice(["", "file,label\n", ",".join(f"c{n}" for n in range(999)) + ",label\n"])
    return _table(draw, folder, first + line * draw.choice([100_000, 15_900_000 // len(line), 2 * 10**7 // len(line)]))


def names_of_devices(draw: random.Random, folder: Path) -> Path:
    names = [
        "/dev/zero",
        "/proc/self/mem",
        "/proc/kmsg",
        "/etc/passwd",
        "../..",
        ".",
        "a\0b",
        "~",
        "\\\\server\\share",
        "fifo",
    ]
    os.mkfifo(folder / "fifo")
    rows = [f"{draw.choice(names)},{n}" for n in range(draw.randint(1, 9))]
    return _table(draw, folder, "\n".join(["file,label", *rows]))


def _table(draw: random.Random, folder: Path, text: str) -> Path:
    path = folder / f"labels{draw.choice(['.csv', '.csv', '.tsv', '.txt', '.lst'])}"
    path.write_bytes(text.encode(draw.choice(["utf-8", "utf-8", "utf-16"])))
    return path


MAKERS: dict[str, Maker] = {name: _pictures(content) for name, content in CONTENTS.items()}
MAKERS |= {
    "no regular files": odd_files,
    "no regular source": odd_source,
    "folder: deep": deep_folder,
    "folder: names": odd_names,
    "zip: bomb": bomb_zip,
    "zip: lies": lying_zip,
    "zip: list": listed_zip,
    "zip: damaged": damaged_zip,
    "zip: names": named_zip,
    "table: long cells": long_cells,
    "table: many cells": many_cells,
    "table: names": names_of_devices,
}


# --- reading them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of a hostile source."""

    kind: str
    seed: str
    said: list[str]  # sentences: what was refused, and why; empty where all was read
    trouble: str  # why it was not survived, if it was not
    seconds: float  # of processor time
    megabytes: float  # at most, resident


def read(source: Path) -> list[str]:
    """Lists and decodes a source as the audit and a training do. Returns a sentence for each thing that was refused."""
    try:
        samples = find_samples(source)
    except DataError as error:
        return [str(error)]
    if source.is_dir() or source.suffix == ".zip":
        for path in list_pictures(source)[1]:
            is_picture(path)
    found = decode([sample.path for sample in samples], (32, 128), 1)
    return [
        f"{shown(sample.path)}: {picture.problem}"
        for sample, picture in zip(samples, found, strict=True)
        if picture.problem
    ]


def outcome(kind: str, seed: str, seconds: int = SECONDS) -> Outcome:
    """Makes one, and reads it in a child that is held to BYTES and so many seconds of processor time."""
    scratch = tempfile.mkdtemp()
    try:
        source = MAKERS[kind](random.Random(f"{kind} {seed}"), Path(scratch))
        out, into = os.pipe()
        child = os.fork()
        if not child:
            _read_held(source, into, seconds)
        os.close(into)
        with os.fdopen(out, "rb") as pipe:
            told = pipe.read()
        _, status, used = os.wait4(child, 0)
    finally:
        subprocess.run(["rm", "-rf", scratch], check=True)  # at depths where Python's own way ends
    said = json.loads(told) if told else []
    trouble = "" if status == 0 else f"killed by signal {status}" if os.WIFSIGNALED(status) else "\n".join(said)
    if wrong := [
        each for each in said if "good.png" in each or printable(each, keep="\n") != each or len(each) > 5_000
    ]:
        trouble += f"said what no terminal may have, or of a good picture: {wrong[0]!r}"
    return Outcome(kind, seed, said, trouble, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _read_held(source: Path, into: int, seconds: int) -> None:
    """In a child, which ends here."""
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    signal.alarm(6 * seconds)  # for what waits; on a busy machine
    code = 0
    try:
        with warnings.catch_warnings(action="ignore"):
            said = read(source)
    except BaseException as error:  # whatever it is, it was not survived
        said, code = [f"{type(error).__name__}: {error}"], 1
    with os.fdopen(into, "wb") as pipe:
        pipe.write(json.dumps(said).encode())
    os._exit(code)


def table(outcomes: Sequence[Outcome]) -> str:
    """A row per kind."""
    lines = ["| kind | tried | survived | refused or named | most seconds | most MB |", "|---|---|---|---|---|---|"]
    for kind in dict.fromkeys(o.kind for o in outcomes):
        rows = [o for o in outcomes if o.kind == kind]
        counts = len(rows), sum(not o.trouble for o in rows), sum(bool(o.said) for o in rows)
        most = max(o.seconds for o in rows), max(o.megabytes for o in rows)
        lines.append(f"| {kind} | {' | '.join(map(str, counts))} | {most[0]:.1f} | {most[1]:.0f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile_pictures", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10, help="of each kind")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of processor time that each may take")
    parser.add_argument("--kinds", nargs="*", default=list(MAKERS))
    options = parser.parse_args()
    started, outcomes = time.monotonic(), []
    for kind in options.kinds:
        outcomes += [outcome(kind, f"{options.seed}.{place}", options.seconds) for place in range(options.count)]
    print(table(outcomes))
    for lost in (o for o in outcomes if o.trouble):
        print(f"{lost.kind}, seed {lost.seed}: {lost.trouble}")
    print(f"{len(outcomes)} in {time.monotonic() - started:.0f} s")
    return any(o.trouble for o in outcomes)


if __name__ == "__main__":
    sys.exit(main())
