"""How the tools for records stand against generated zips and folders: `python -m tests.benchmarks.attacks --count 300`.

Each case is made by a seeded generator, and tried in a process of its own under a limit of memory. It survives when the tool
ends by itself with status 0, 1 or 2 and without a traceback, prints no control character, loses none of the files that came,
changes nothing around them and, with status 2, nothing at all.
"""

import argparse
import bz2
import lzma
import os
import random
import shutil
import signal
import socket
import sqlite3
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import chdir, closing, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from helpers.config import PROJECT
from mlruns_tools import fixed_paths, merge, pack
from mlruns_tools.fixed_paths import DATABASE, MARKER, PREFIX, SUPER_JOURNAL, TRACE_TAGS
from tests.hostile import EXPERIMENT, RUN, file_store

PATIENCE = 120  # seconds after which a tool hangs
VICTIM = "victim.txt"  # beside the folder with the case
EDITED = (DATABASE, "meta.yaml", MARKER, *TRACE_TAGS)  # what a repair may change
Kind = Callable[
    [random.Random, Path, Path], tuple[Path, list[str]]
]  # (dice, empty folder, good record): source, arguments


class Outcome(NamedTuple):
    """What a tool did with a case."""

    fault: str  # "" for one that survived
    status: int
    seconds: float
    peak: int  # bytes


# --- zips ------------------------------------------------------------------------------------------------------------


class Member(NamedTuple):
    """A member as it is written, true or not."""

    name: bytes
    data: bytes  # as packed
    size: int  # that it says
    crc: int = 0
    method: int = zipfile.ZIP_STORED
    mode: int = 0


def stored(name: str | bytes, data: bytes, mode: int = 0) -> Member:
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    return Member(raw, data, len(data), zlib.crc32(data), mode=mode)


def write_zip(path: Path, members: list[Member], lie: int | None = None) -> Path:
    """A zip of these members; `lie` is the size of their list that it says."""
    with path.open("wb") as file:
        listed = bytearray()
        for m in members:
            offset = file.tell()
            packed = min(len(m.data), 2**32 - 2)
            common = struct.pack(
                "<HHHHHLLLHH", 20, 0x800, m.method, 0, 33, m.crc, packed, min(m.size, 2**32 - 2), len(m.name), 0
            )
            file.write(b"PK\3\4" + common + m.name + m.data)
            listed += (
                b"PK\1\2\x14\3" + common + struct.pack("<HHHLL", 0, 0, 0, m.mode << 16, offset) + m.name
            )  # made by Unix
        start, count = file.tell(), min(len(members), 65535)
        file.write(listed)
        size = len(listed) if lie is None else lie
        file.write(b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, count, count, size, start, 0))
    return path


def good_members(good: Path) -> list[Member]:
    files = sorted(path for path in good.rglob("*") if path.is_file())
    return [stored(f"mlruns/{path.relative_to(good).as_posix()}", path.read_bytes()) for path in files]


@cache
def bomb(method: int, size: int) -> bytes:
    """Zeros, packed."""
    packers = {
        zipfile.ZIP_DEFLATED: lambda: zlib.compressobj(1, zlib.DEFLATED, -15),
        zipfile.ZIP_BZIP2: bz2.BZ2Compressor,
        zipfile.ZIP_LZMA: lambda: lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[FILTER]),
    }
    packer = packers[method]()
    head = struct.pack("<BBH", 9, 4, 5) + struct.pack("<BL", 93, 2**20) if method == zipfile.ZIP_LZMA else b""
    return head + b"".join([packer.compress(bytes(2**20)) for _ in range(size >> 20)]) + packer.flush()


FILTER = {"id": lzma.FILTER_LZMA1, "preset": 0, "dict_size": 2**20}
INSIDE = [
    f"mlruns/artifacts/{RUN}/artifacts/x.bin",
    f"mlruns/{DATABASE}",
    f"mlruns/{DATABASE}-journal",
    "mlruns/other.db",
    f"mlruns/{EXPERIMENT}/meta.yaml",
    f"mlruns/{EXPERIMENT}/{RUN}/metrics/loss",
    f"mlruns/{MARKER}",
    "mlruns/x",
    "x",
]


def bombs(dice: random.Random, folder: Path, good: Path, limit: int) -> tuple[Path, list[str]]:
    method, size = dice.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]), limit + limit // 4
    says = dice.choice([size, size, 3, 2**20, 200 * 2**20])
    name = dice.choice(INSIDE)
    others = [member for member in good_members(good) if member.name != name.encode()]
    count = dice.choice([1, 1, 3])
    mine = [
        Member(f"{name}{n or ''}".encode(), bomb(method, size), says, dice.getrandbits(32), method)
        for n in range(count)
    ]
    padding = [stored(f"mlruns/artifacts/{RUN}/artifacts/noise", dice.randbytes(dice.choice([1, 8 * 2**20])))]
    return write_zip(folder / "mlruns.zip", [*others, *mine, *padding]), []


def mutated(dice: random.Random, folder: Path, good: Path) -> tuple[Path, list[str]]:
    path = folder / "mlruns.zip"
    with zipfile.ZipFile(path, "w", dice.choice([0, 8, 12, 14])) as archive:
        for file in sorted(file for file in good.rglob("*") if file.is_file()):
            archive.write(file, f"mlruns/{file.relative_to(good).as_posix()}")
        start = archive.fp.tell()
    data = bytearray(path.read_bytes())
    for _ in range(dice.randint(1, 12)):
        place = dice.choice([dice.randrange(len(data)), dice.randrange(start, len(data))])
        how = dice.randrange(4)
        if how == 0:
            data[place] ^= 1 << dice.randrange(8)
        elif how == 1:
            data[place : place + dice.randint(1, 8)] = dice.choice([b"\xff", b"\0"]) * dice.randint(1, 8)
        elif how == 2:
            del data[place : place + dice.randint(1, 64)]
            data += b"PK"
        else:
            data[place : place + 4] = struct.pack("<L", dice.choice([0, 1, 2**31, 2**32 - 1, len(data)]))
        start = min(start, len(data) - 1)
    path.write_bytes(data)
    return path, []


def named(dice: random.Random, folder: Path, good: Path) -> tuple[Path, list[str]]:
    words = [
        "..",
        ".",
        "",
        "C:",
        "mlruns",
        "artifacts",
        RUN,
        "a" * 250,
        "\\",
        "\0",
        "\x1b[31mred",
        "\u202egnp",
        "\ud800",
    ]
    words += [
        "con",
        "a:b",
        "é",
        "e\u0301",
        "A",
        "a",
        " ",
        "x.",
        "~",
        "$(id)",
        DATABASE,
        "meta.yaml",
        "1",
        "models",
        ".trash",
    ]
    names = [
        "/".join(dice.choices(words, k=dice.choice([1, 2, 3, 5, 70, 400]))) for _ in range(dice.choice([1, 3, 40]))
    ]
    names = [dice.choice(["", "mlruns/", f"mlruns/artifacts/{RUN}/artifacts/", "/"]) + name for name in names]
    return write_zip(folder / "mlruns.zip", good_members(good) + [stored(name[:60_000], b"evil") for name in names]), []


def many(dice: random.Random, folder: Path, good: Path) -> tuple[Path, list[str]]:
    count, length = dice.choice([(30_000, 1), (150_000, 3), (600_000, 1), (3000, 20_000), (1000, 900)])
    top = dice.choice(["mlruns/", f"mlruns/artifacts/{RUN}/artifacts/", ""])
    between = dice.choice(["", "/"]) if length > 10 else ""
    name = (f"a{between}" * length)[: min(length, 60_000)]
    extra = [Member(f"{top}{name}{n}".encode(), b"", 0) for n in range(count)]
    lie = dice.choice([None, None, 0, 2**31, 2**32 - 2])
    return write_zip(folder / "mlruns.zip", good_members(good) + extra, lie), []


def special_members(dice: random.Random, folder: Path, good: Path) -> tuple[Path, list[str]]:
    mode = dice.choice([stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR, 0o7 << 13])
    to = dice.choice([b"/etc/passwd", b"../../victim.txt", b"", b"."])
    mine = stored(
        dice.choice([*INSIDE, f"mlruns/artifacts/{RUN}/artifacts/sub"]), to, mode | dice.choice([0, 0o777, 0o4777])
    )
    others = [member for member in good_members(good) if member.name != mine.name]
    return write_zip(folder / "mlruns.zip", dice.sample([*others, mine], len(others) + 1)), []


def zipped_work_files(dice: random.Random, folder: Path, good: Path) -> tuple[Path, list[str]]:
    extra = [
        stored(f"mlruns/{name}", dice.randbytes(50) + SUPER_JOURNAL)
        for name in dice.sample(WORK_FILES, dice.randint(1, 5))
    ]
    return write_zip(folder / "mlruns.zip", good_members(good) + extra), []


# --- folders ---------------------------------------------------------------------------------------------------------

WORK_FILES = [
    "merge.part/lock",
    "merge.part/lock-journal",
    "/".join(("merge.part", "work", "x")),
    f"{PREFIX}0123/x",
    f"{PREFIX}whole-0123/mlruns/x",
    f"{PREFIX}lock",
    f"{DATABASE}.part",
    f"{DATABASE}.part-journal",
    f"{DATABASE}.upgrade",
    f"{DATABASE}.bak",
    f"{MARKER}.part",
    "repair-1.undo.zip.part",
    "repair-1.undo.zip",
    ".git/hooks/post-checkout",
    "sitecustomize.py",
    "conftest.py",
    "notes\x1b]0;x\7.txt",
]
READ = [  # what the tools look at, of a database and of a file store
    DATABASE,
    f"{DATABASE}-journal",
    f"{DATABASE}-wal",
    f"{DATABASE}-shm",
    "other.db",
    MARKER,
    "repair-1.undo.zip",
    f"{EXPERIMENT}/meta.yaml",
    f"{EXPERIMENT}/tags/note",
    f"{EXPERIMENT}/{RUN}/meta.yaml",
    f"{EXPERIMENT}/{RUN}/metrics/loss",
    f"{EXPERIMENT}/{RUN}/params/x",
    f"{EXPERIMENT}/{RUN}/tags/mlflow.user",
    f"{EXPERIMENT}/{RUN}/artifacts/x",
    f"{EXPERIMENT}/traces/tr-{RUN}/tags/mlflow.artifactLocation",
    f"artifacts/{RUN}/artifacts/x",
    "models/m/meta.yaml",
    "models/m/version-1/meta.yaml",
]


def record(dice: random.Random, folder: Path, good: Path) -> tuple[Path, list[str]]:
    """A database or a file store to be spoiled, and a tool for it."""
    mlruns = folder / "mlruns"
    if dice.random() < 0.5:
        shutil.copytree(good, mlruns)
    else:
        file_store(mlruns)
    return mlruns, dice.choice([[], [], ["--dry-run"], ["--undo"], ["pack"], ["merge"], ["into"]])


def put(mlruns: Path, name: str) -> Path:
    path = mlruns / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return path


def special_files(dice: random.Random, folder: Path, good: Path) -> tuple[Path, list[str]]:
    mlruns, arguments = record(dice, folder, good)

    def sparse(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(dice.choice([2**24, 2**34, 10**13]))

    def unix_socket(path: Path) -> None:
        with chdir(path.parent), closing(socket.socket(socket.AF_UNIX)) as one:
            one.bind(path.name)

    kinds: list[Callable[[Path], object]] = [os.mkfifo, sparse, unix_socket, Path.mkdir]
    links = [
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/mem",
        "/proc/kmsg",
        "/etc/passwd",
        "loop",
        str(folder.parent / VICTIM),
        "/",
    ]
    kinds += [lambda path, to=to: path.symlink_to(path.name if to == "loop" else to) for to in links]
    for name in dice.sample(READ, dice.choice([1, 1, 2])):
        dice.choice(kinds)(put(mlruns, name))
    return mlruns, arguments


def work_files(dice: random.Random, folder: Path, good: Path) -> tuple[Path, list[str]]:
    mlruns, arguments = record(dice, folder, good)
    for name in dice.sample(WORK_FILES, dice.randint(1, 5)):
        if any(parent.is_symlink() for parent in (mlruns / name).parents):
            continue
        path, how = put(mlruns, name), dice.randrange(4)
        if how == 0:
            path.symlink_to(folder.parent / VICTIM)
        elif how == 1:
            path.symlink_to(folder.parent, target_is_directory=True)
        elif how == 2:
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("CREATE TABLE t (x)")
        else:
            path.write_bytes(dice.randbytes(600) + SUPER_JOURNAL)
    return mlruns, arguments


def texts(dice: random.Random, folder: Path, good: Path) -> tuple[Path, list[str]]:
    """Long and crooked texts in what the tools read."""
    mlruns, arguments = record(dice, folder, good)
    some = [
        "'",
        '"',
        "\\",
        "\n",
        " ",
        "a/",
        "../",
        "9",
        "{",
        "[",
        "- ",
        "&a ",
        "\x1b[2J",
        "%2e",
        "\u202e",
        "x: ",
        "''",
        "\\\n",
        "*a",
    ]
    size = dice.choice([100, 5000, 400_000, 3_000_000])
    pattern = "".join(dice.choices(some, k=dice.randint(1, 4)))
    text = (dice.choice(["", "artifact_uri: ", "artifact_location: '", 'artifact_uri: "', "1 2 3\n"]) + pattern * size)[
        :size
    ]
    place = dice.choice([name for name in READ if not name.endswith((".db", "-journal", "-wal", "-shm", ".zip"))])
    put(mlruns, place).write_text(text, encoding="utf-8", errors="surrogateescape")
    if (mlruns / DATABASE).exists():
        rows = dice.choice([1, 50, 2000])
        location = (dice.choice(["/", "file:///", "", "s3://", "mlflow-artifacts:/"]) + pattern * size)[
            : size // rows + 10
        ]
        with closing(sqlite3.connect(mlruns / DATABASE)) as connection, connection:
            columns = "run_uuid, name, lifecycle_stage, experiment_id, artifact_uri"
            query = f"INSERT INTO runs ({columns}) VALUES (?, ?, 'active', 1, ?)"
            connection.executemany(query, [(f"{n:032x}", pattern, location) for n in range(rows)])
    return mlruns, arguments


def deep(dice: random.Random, folder: Path, good: Path) -> tuple[Path, list[str]]:
    mlruns, arguments = record(dice, folder, good)
    top = mlruns / dice.choice(
        [".", f"artifacts/{RUN}/artifacts", EXPERIMENT, f"{EXPERIMENT}/{RUN}/params", "models", "x"]
    )
    top.mkdir(parents=True, exist_ok=True)
    with chdir(top):
        if dice.random() < 0.5:
            for _ in range(dice.choice([200, 1200])):
                Path("d").mkdir(exist_ok=True)
                os.chdir("d")
            Path("end.txt").write_text("the end")
        else:
            for number in range(dice.choice([1000, 6000])):
                Path(dice.choice(["{}", "{:032x}", "a{}"]).format(number)).mkdir(exist_ok=True)
    return mlruns, arguments


def undo_zips(dice: random.Random, folder: Path, good: Path, limit: int) -> tuple[Path, list[str]]:
    mlruns, _ = record(dice, folder, good)
    evil = dice.choice(
        ["../victim.txt", "/etc/x", f"../../{VICTIM}", DATABASE, MARKER, f"{EXPERIMENT}/meta.yaml", "\x1b[1mx"]
    )
    told = '{"files": {"%s": 0}, "databases": [], "made": ["%s"], "moved": [["%s", "%s"]], "new": ["%s"]}'
    told %= tuple(dice.choice([evil, "x", DATABASE]).replace("\x1b", "\\u001b") for _ in range(5))
    told = dice.choice([told, "{}", "[]", "nonsense", told.replace("{", "[")])
    members = [stored("undo.json", told.encode()), stored(f"files/{evil}", b"evil")]
    if dice.random() < 0.5:
        method = dice.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
        name = dice.choice([b"undo.json", f"files/{DATABASE}".encode()])
        members = [m for m in members if m.name != name] + [
            Member(name, bomb(method, limit + limit // 4), 2**30, 0, method)
        ]
    write_zip(mlruns / "repair-1.undo.zip", members)
    return mlruns, ["--undo"]


def kinds(limit: int) -> dict[str, Kind]:
    return {
        "zip: bombs": lambda *given: bombs(*given, limit),
        "zip: bytes changed": mutated,
        "zip: names": named,
        "zip: many members": many,
        "zip: links, devices, pipes": special_members,
        "zip: work files": zipped_work_files,
        "folder: links, devices, pipes, sparse files": special_files,
        "folder: work files": work_files,
        "folder: long and crooked texts": texts,
        "folder: deep and wide": deep,
        "folder: copies for --undo": lambda *given: undo_zips(*given, limit),
    }


# --- the trial -------------------------------------------------------------------------------------------------------


def state(folder: Path) -> dict[str, tuple]:
    """{path: what is there}, without reading pipes and large files whole."""
    found, usual = {}, sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)  # of `os.walk` before Python 3.12
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(here, name)
            with suppress(OSError):  # too long a path for one call
                status = os.lstat(path)
                link = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
                size, head = 0, b""
                if stat.S_ISREG(status.st_mode):
                    with open(path, "rb") as file:
                        size, head = status.st_size, file.read(2**16)
                found[os.path.relpath(path, folder)] = stat.S_IFMT(status.st_mode), link, size, head
    sys.setrecursionlimit(usual)
    return found


def run(source: Path, arguments: list[str], work: Path, good_zip: Path) -> int:
    """The tool's exit status."""
    if arguments == ["pack"]:
        return pack.main([str(source), "--to", str(work / "packed.zip")])
    if arguments == ["merge"]:
        return merge.main([str(source), str(work / "merged" / "mlruns")])
    if arguments == ["into"]:
        return merge.main([str(good_zip), str(source)])
    return fixed_paths.main([str(source), *arguments])


def limited(task: Callable[[], int], log: Path, limit: int) -> tuple[int, float, int]:
    """(exit status or minus the signal, seconds, peak of memory in bytes) of a task in a process of its own."""
    import resource

    start = time.monotonic()
    if not (child := os.fork()):
        status = 99
        try:
            base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (base + limit, base + limit))
            signal.alarm(PATIENCE)
            with log.open("w", encoding="utf-8", errors="surrogateescape") as out:
                os.dup2(out.fileno(), 1), os.dup2(out.fileno(), 2)
                sys.stdin = open(os.devnull)  # noqa: SIM115
                sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
                try:
                    status = task()
                except BaseException:
                    import traceback

                    traceback.print_exc()
                sys.stdout.flush()
        finally:
            os._exit(status)
    _, ended, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(ended), time.monotonic() - start, usage.ru_maxrss * 1024


def attempt(kind: Kind, seed: int, work: Path, good: Path, limit: int) -> Outcome:
    inbox = work / "inbox"
    inbox.mkdir(parents=True)
    (work / VICTIM).write_text("untouched")
    source, arguments = kind(random.Random(seed), inbox, good / "mlruns")
    before = state(work)
    log = work.with_name(f"{work.name}.log")
    code, seconds, peak = limited(lambda: run(source, arguments, work, good / "mlruns.zip"), log, limit)
    after, said = state(work), log.read_text(encoding="utf-8", errors="replace")
    fault = ""
    if code not in (0, 1, 2):
        fault = "hangs" if code == -signal.SIGALRM else f"ends with {code}: {said.strip().splitlines()[-1:]}"
    elif "Traceback" in said or any(not c.isprintable() and c != "\n" for c in said):
        fault = "prints a traceback or a control character"
    elif code == 2 and before != after:
        fault = f"says that nothing was changed: {sorted(set(before.items()) ^ set(after.items()))[:2]}"
    else:
        fault = next(lost(before, after, source, work, "--undo" in arguments), "")
    return Outcome(fault and f"{' '.join(arguments) or 'repair'}, seed {seed}: {fault}", code, seconds, peak)


def lost(before: dict[str, tuple], after: dict[str, tuple], source: Path, work: Path, undo: bool) -> Iterator[str]:
    """What came and is no longer there, or was made around the record."""
    aside = {tuple(value) for name, value in after.items() if ".set-aside" in name}
    for name, value in before.items():
        may = os.path.basename(name) in EDITED and value[0] == stat.S_IFREG
        gone = after.get(name) != value and tuple(value) not in aside and not (may and name in after)
        if gone and not (undo and name.endswith("repair-1.undo.zip")):
            yield f"{name} was changed or removed"
    tops = {
        "mlruns",
        "mlartifacts",
        "mlruns.set-aside",
        *(name for name in os.listdir(source.parent) if name.endswith(".db")),
    }
    for name in after.keys() - before.keys():
        steps = name.split(os.sep)
        if not (steps[0] in ("packed.zip", "merged") or (steps[0] == "inbox" and steps[1] in tops)):
            yield f"{name} was made"
        if any(step.startswith(PREFIX) for step in steps) and ".set-aside" not in name:
            yield f"{name} was left"


def make_good(folder: Path, artifacts: dict[str, bytes] | None = None) -> Path:
    """A folder with a record of MLflow's, `mlruns`, and its zip; with these artifacts in its run."""
    script = "import sys; from mlruns_tools.dashboard import demonstration; demonstration(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, folder], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    (note,) = (folder / "mlruns" / "artifacts").rglob("note.txt")
    for name, data in (artifacts or {}).items():
        note.with_name(name).write_bytes(data)
    pack.pack(folder / "mlruns")
    return folder


def attack(count: int, seed: int, limit: int, folder: Path) -> dict[str, list[Outcome]]:
    """{kind: outcomes} of so many cases, the kinds by turns."""
    good, found, all_kinds = make_good(folder / "good"), defaultdict(list), kinds(limit)
    for number in range(count):
        name = list(all_kinds)[number % len(all_kinds)]
        work = folder / str(number)
        found[name].append(attempt(all_kinds[name], seed + number, work, good, limit))
        subprocess.run(["rm", "-rf", work], check=True)  # deeper than Python's own
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=1024, help="MiB of memory above what the tools have at the start")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = attack(given.count, given.seed, given.limit * 2**20, Path(folder))
    print("| kind | tried | survived | refused | longest, s | peak, MB |\n|---|---|---|---|---|---|")
    for name, outcomes in found.items():
        survived, refused = sum(not each.fault for each in outcomes), sum(each.status == 2 for each in outcomes)
        longest, peak = max(each.seconds for each in outcomes), max(each.peak for each in outcomes)
        print(f"| {name} | {len(outcomes)} | {survived} | {refused} | {longest:.1f} | {peak / 1e6:.0f} |")
    for name, outcome in ((name, each) for name, outcomes in found.items() for each in outcomes if each.fault):
        print(f"{name}: {outcome.fault}")


if __name__ == "__main__":
    main()
