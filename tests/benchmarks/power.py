"""What a loss of power just after a command leaves on the disk: `sudo python -m tests.benchmarks.power`.

Each command works in an ext4 image that is mounted with `commit=1`. Some seconds after its end the image is copied, as a disk
without power would be, and the copy is mounted: all that the command left must be there, byte by byte. As a control the same
is done without the calls that have the disk hold a file (`fsync`, of Python and of SQLite). Linux, as root.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.config import PROJECT
from tests.benchmarks.attacks import make_good
from tests.hostile import RUN, file_store

FILES = {f"{number}.bin": os.urandom(50_000) for number in range(20)}  # artifacts of the run
CONTROL = "import os; os.fsync = lambda file: None; "
COMMANDS = {  # a call of Python, with `{}` for the mounted folder; what it works on is made and on the disk before
    "repair of a database": "from mlruns_tools import fixed_paths as f; f.main(['{}/moved/mlruns'])",
    "repair of a file store": "from mlruns_tools import fixed_paths as f; f.main(['{}/files/mlruns'])",
    "unzip": "from mlruns_tools import fixed_paths as f; f.main(['{}/mlruns.zip', '--to', '{}/unpacked'])",
    "merge": "from mlruns_tools import merge as m; m.main(['{}/mlruns.zip', '{}/merged/mlruns'])",
    "pack": "from mlruns_tools import pack as p; p.main(['{}/moved/mlruns', '--to', '{}/packed.zip'])",
    "training, its checkpoints": "import os; os.environ |= {'CAPTCHA_WORK': '{}/work', 'CAPTCHA_TINY': '1'};"
    " from helpers import experiment as e; from helpers.config import Config; from helpers.data.module import load_data;"
    " from helpers.training import session; from helpers.training.module import fit;"
    " config = Config(recipe='conv_ctc', device='cpu'); data = load_data(config);"
    " fit(config, data, owner=session.begin(config, e._facts(config, data), data).id)",
}


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,commit=1", image, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def prepare(disk: Path, good: Path) -> None:
    """A record of MLflow's that was moved, its zip, and a file store that was moved."""
    subprocess.run(["cp", "-r", good / "mlruns.zip", disk], check=True)
    subprocess.run(["mkdir", "-p", disk / "moved", disk / "unpacked"], check=True)
    subprocess.run(["cp", "-r", good / "mlruns", disk / "moved"], check=True)
    run = next(file_store(disk / "files" / "mlruns").rglob(RUN))
    for name, data in FILES.items():
        (run / "artifacts" / name).write_bytes(data)
    os.sync()


def lost(command: str, folder: Path, good: Path, seconds: float) -> tuple[int, list[str]]:
    """(files that the command changed or made, names of those that the copied image holds otherwise or not at all)."""
    image, copy = folder / "disk.img", folder / "copy.img"
    with image.open("wb") as file:
        file.truncate(256 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    with mounted(image, folder / "disk") as disk:
        prepare(disk, good)
        before = contents(disk)
        time.sleep(2)  # what was made before is on the disk
        script = command.replace("{}", str(disk))
        subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        after = contents(disk)
    with mounted(copy, folder / "disk") as disk:
        held = contents(disk)
    changed = [name for name in after if after[name] != before.get(name)]
    wrong = [name for name in after if after[name] != held.get(name)]
    return len(changed), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3, help="from the end of the command to the loss of power")
    given = parser.parse_args()
    print("| command | files changed or made | lost or short | without fsync |\n|---|---|---|---|")
    gone: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        good = make_good(Path(folder) / "good", FILES)
        for name, command in COMMANDS.items():
            changed, wrong = lost(command, Path(folder), good, given.seconds)
            control = lost(CONTROL + command, Path(folder), good, given.seconds)[1]
            print(f"| {name} | {changed} | {len(wrong)} | {len(control)} |")
            gone += wrong
    print("\nlost or short:", ", ".join(gone) or "none")


if __name__ == "__main__":
    main()
