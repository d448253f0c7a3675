"""Packages that Kaggle's image lacks, installed at their versions and by their hashes. Standard library only."""

import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from helpers.config import PROJECT
from helpers.kaggle.inputs import attached_wheels
from helpers.output import say

REQUIREMENTS = PROJECT / "requirements-kaggle.txt"  # what the image lacks, each with its version and hashes
HASH = "--hash=sha256:"
WHEELS = "captcha-ocr-offline-wheels"  # the data set of their wheels that the build makes


def pins() -> dict[str, set[str]]:
    """{`name==version`: the SHA-256 of each of its files that may be installed}, of requirements-kaggle.txt."""
    text = REQUIREMENTS.read_text(encoding="utf-8").replace("\\\n", " ")
    words = [line.partition("#")[0].split() for line in text.splitlines()]
    return {line: {word.removeprefix(HASH) for word in hashes} for line, *hashes in filter(None, words)}


def requirements() -> list[str]:
    """The packages of requirements-kaggle.txt, `name==version` each."""
    return list(pins())


@contextmanager
def exactly(lines: Sequence[str]) -> Iterator[list[str]]:
    """pip's arguments for these packages of requirements-kaggle.txt: their files by hash, nothing that they need besides."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        wanted = [" ".join([line, *(HASH + sha256 for sha256 in sorted(pins()[line]))]) for line in lines]
        file.write_text("\n".join(wanted), encoding="utf-8")
        yield ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(file)]


def missing_packages() -> list[str]:
    """Those of them that are not installed; what is installed stays, whatever its version."""
    there = installed()
    return [line for line in requirements() if normal(line.partition("==")[0]) not in there]


def installed() -> dict[str, str]:
    """{package: version}; of a package found twice, the one that Python imports."""
    found: dict[str, str] = {}
    for package in metadata.distributions():
        if name := package.metadata["Name"]:
            found.setdefault(normal(name), package.version)
    return found


def normal(package: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", package).lower()


def install(lines: Sequence[str]) -> None:
    """Installs exactly these, from attached wheels where there are any, else from the index.

    Raises RuntimeError where neither has them, where another package changed, or where one that they need is missing.
    """
    before, folders = installed(), attached_wheels()
    sources = [["--no-index", *(f"--find-links={folder}" for folder in folders)]] if folders else []
    for source in [*sources, ["--retries=1"]]:
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *source]
        with exactly(lines) as files:
            done = subprocess.run([*command, *files], capture_output=True, text=True)
        if not done.returncode:
            break
    else:
        print(done.stderr[-1000:], file=sys.stderr)
        raise RuntimeError(
            f"cannot install {', '.join(lines)}: switch Internet on in the notebook's settings, or attach the data set"
            f" {WHEELS} that `python -m helpers kaggle build` makes, and run this again"
        )
    importlib.invalidate_caches()
    after = installed()
    changed = [f"{name} {old} -> {after.get(name)}" for name, old in before.items() if after.get(name) != old]
    if changed:
        raise RuntimeError(f"the installation changed {', '.join(changed)}: start the session again, and report it")
    if lacking := needed_by(lines) - set(after):
        raise RuntimeError(
            f"this image lacks {', '.join(sorted(lacking))} besides: add it to {REQUIREMENTS.name} and build the notebook"
            " again, or switch Internet on and install it before this cell"
        )
    origin = ", ".join(map(str, folders)) if "--no-index" in source else "the index"
    say(f"installed {', '.join(lines)} from {origin}")


def needed_by(lines: Sequence[str]) -> set[str]:
    """The packages that these need everywhere: those of their requirements that carry no condition."""
    found = [metadata.requires(line.partition("==")[0]) or [] for line in lines]
    return {normal(re.match(r"[\w.-]+", need)[0]) for needs in found for need in needs if ";" not in need}
