"""A model served by MLflow on loopback, and what a stranger might send it."""

import base64
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from PIL import Image

HOST = "127.0.0.1"
PATIENCE = 300  # seconds
JSON, CSV = "application/json", "text/csv"
DECLARED = 10_000  # pixels, of each side


class Service(NamedTuple):
    address: str
    process: subprocess.Popen
    log: Path

    def ask(self, body: bytes, content_type: str | None = JSON) -> tuple[int, str]:
        """(HTTP status, answer)."""
        request = urllib.request.Request(f"{self.address}/invocations", body, method="POST")
        request.add_header("Content-Type", content_type or "")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def read(self, *contents: bytes) -> list[dict]:
        """What it says of picture files, in their order."""
        status, answer = self.ask(records(*contents))
        assert status == 200, answer
        return json.loads(answer)["predictions"]

    def peak(self) -> int:
        """The most memory that any of its processes ever held, in MB. Linux."""
        pids = [self.process.pid]
        for pid in pids:
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return max(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


@contextmanager
def served(model: str | Path, folder: Path, **environment: str) -> Iterator[Service]:
    """`mlflow models serve` in a process of its own, in an empty folder and without the project; ended with the block."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
    with (folder / "service.log").open("wb") as log:
        command += ["-h", HOST, "-p", port]
        settings = {"cwd": folder, "env": alone(**environment), "stdout": log, "stderr": log}
        process = subprocess.Popen(command, start_new_session=True, **settings)
        try:
            wait(service := Service(f"http://{HOST}:{port}", process, folder / "service.log"))
            yield service
        finally:
            end(process)


def end(process: subprocess.Popen) -> None:
    """The process with those that it began."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    else:
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], check=False, capture_output=True)
    process.wait(30)


def alone(**environment: str) -> dict[str, str]:
    """The environment of a person who has the installed packages but not the project, and lets nothing be unpickled."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # uvicorn is called by name
    return kept | {"PATH": path, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"} | environment


def wait(service: Service) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and service.process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{service.address}/health", timeout=5):
            return
        time.sleep(0.2)
    raise TimeoutError(service.log.read_text(encoding="utf-8", errors="replace")[-3000:])


def records(*contents: bytes) -> bytes:
    """The body of a request that sends picture files."""
    rows = [{"image": base64.b64encode(content).decode()} for content in contents]
    return json.dumps({"dataframe_records": rows}).encode()


def picture(kind: str = "PNG", size: tuple[int, int] = (150, 40), mode: str = "L", **settings: object) -> bytes:
    Image.new(mode, size, 255 if mode == "L" else "white").save(file := io.BytesIO(), kind, **settings)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, pixels: bytes, *more: bytes) -> bytes:
    """Gray, 8 bits; `pixels` as they are compressed, `more` chunks before them."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """As many zero bytes, compressed to a thousandth."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(count >> 20)]
    return b"".join([*parts, packer.compress(bytes(count & (1 << 20) - 1)), packer.flush()])


def patched(content: bytes, place: int, data: bytes) -> bytes:
    return content[:place] + data + content[place + len(data) :]


def tagged(tiff: bytes, tag: int, value: int) -> bytes:
    """A TIFF (little-endian) with another value of 32 bits in one of its 12-byte entries."""
    (start,) = struct.unpack_from("<I", tiff, 4)
    entries = range(start + 2, start + 2 + 12 * struct.unpack_from("<H", tiff, start)[0], 12)
    entry = next(entry for entry in entries if struct.unpack_from("<H", tiff, entry) == (tag,))
    return patched(patched(tiff, entry + 2, struct.pack("<H", 4)), entry + 8, struct.pack("<I", value))


def bad_pictures() -> dict[str, bytes]:
    """Files that are no picture, or one that must not be decoded."""
    row, jpeg, tiff = zlib.compress(bytes(41 * 150)), picture("JPEG"), picture("TIFF")
    large = struct.pack("<H", 65535)
    big_text = chunk(b"zTXt", b"note\0\0" + zeros(200 << 20))
    big_profile = chunk(b"iCCP", b"icc\0\0" + zeros(200 << 20))
    return {
        "text": b"Is this the picture?",
        "nothing": b"",
        "PDF": b"%PDF-1.7\n%\xe2\xe3",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "half a PNG": picture()[:60],
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "100 megapixels declared": png(DECLARED, DECLARED, row),
        "100 megapixels of zeros": png(DECLARED, DECLARED, zeros((DECLARED + 1) * DECLARED)),
        "more pixels than declared": png(150, 40, zeros(300 << 20))[:-20],
        "text of 200 MB": png(150, 40, row, big_text),
        "colour profile of 200 MB": png(150, 40, b"", big_profile),
        "GIF of 65535 x 65535": patched(picture("GIF"), 6, large * 2)[:-20],
        "BMP of 2 gigapixels": patched(picture("BMP"), 18, struct.pack("<ii", 1 << 20, 2000)),
        "JPEG of 65500 x 65500": patched(jpeg, jpeg.index(b"\xff\xc0") + 5, struct.pack(">HH", 65500, 65500)),
        "WebP of 16384 x 16384": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2,
        "TIFF of 10 gigapixels": tagged(tagged(tiff, 256, 100_000), 257, 100_000),  # width, height
    }


def malformed() -> dict[str, tuple[bytes, str | None]]:
    """{what is wrong: (body, content type)}: each is to be answered with a status of 4xx and one sentence."""
    form = {
        "no JSON": b"{nope",
        "empty body": b"",
        "a list": b"[]",
        "a number": b"7",
        "not UTF-8": b'{"inputs": ["\xff\xfe"]}',
        "deeper than can be read": b"[" * 100_000,
        "no known key": b'{"pictures": []}',
        "two keys": b'{"inputs": [], "instances": []}',
        "empty list": b'{"dataframe_records": []}',
        "empty list of inputs": b'{"inputs": []}',
        "empty list of instances": b'{"instances": []}',
        "empty split": b'{"dataframe_split": {"columns": ["image"], "data": []}}',
        "records that are none": b'{"dataframe_records": 5}',
        "split without data": b'{"dataframe_split": {"columns": ["image"]}}',
        "wrong column": b'{"dataframe_records": [{"picture": "aGFsbG8="}]}',
        "null": b'{"dataframe_records": [{"image": null}]}',
        "a number for an image": b'{"dataframe_records": [{"image": 5}]}',
        "a list for an image": b'{"dataframe_records": [{"image": ["aGFsbG8="]}]}',
        "a table for an image": b'{"inputs": {"image": {"a": "b"}}}',
        "uneven rows": b'{"instances": [1, [2]]}',
        "a chat": b'{"messages": [{"role": "user", "content": "read"}]}',
        "a prompt": b'{"prompt": "read"}',
        "no base64": b'{"dataframe_records": [{"image": "***"}]}',
        "cut base64": b'{"dataframe_records": [{"image": "aGFsbG8"}]}',
        "base64 with umlauts": '{"dataframe_records": [{"image": "aäöü"}]}'.encode(),
        "an address": b'{"dataframe_records": [{"image": "file:///etc/passwd"}]}',
    }
    other = {
        "empty CSV": (b"", CSV),
        "CSV that is none": (b'a,"b\n1', CSV),
        "CSV without the column": (b"picture\naGFsbG8=\n", CSV),
        "CSV not UTF-8": (b"image\n\xff\xfe\n", CSV),
        "Parquet that is none": (b"PAR1", "application/vnd.apache.parquet"),
        "a form": (b"image=aGFsbG8=", "application/x-www-form-urlencoded"),
        "no content type": (b"{}", None),
        "another encoding": (b"{}", f"{JSON}; charset=latin-1"),
    }
    pictures = {f"{kind}, base64": (records(content), JSON) for kind, content in bad_pictures().items()}
    return {kind: (body, JSON) for kind, body in form.items()} | other | pictures
