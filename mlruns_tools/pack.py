"""Pack a record for the way home: the folder `mlruns` in, a consistent `mlruns.zip` beside it out.

A plain copy of a database that another process writes is often corrupt; this one goes through SQLite's backup.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import zipfile
from pathlib import Path

if __name__ == "__main__":  # as a script, only this file's own folder is on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlruns_tools.fixed_paths import Refused, copy_database, find_record, fix_paths, read_marker, write_marker

STORED = {
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".gif",
    ".zip",
    ".gz",
    ".xz",
    ".bz2",
    ".pt",
    ".pth",
    ".ckpt",
    ".onnx",
    ".npz",
}
LEFT_OUT = ("-journal", "-wal", "-shm", ".bak", ".part")  # endings: of SQLite's and the tools' working files


def pack(mlruns: Path, target: Path | None = None) -> Path:
    """Write the record in `mlruns` to `target`, by default `mlruns.zip` beside it; return the zip's path.

    Members lie under `mlruns/`. A zip that was there is replaced only by one that is whole. Raises Refused without a
    record and zipfile.BadZipFile when the written zip does not read back.
    """
    root, databases = find_record(Path(mlruns))
    if read_marker(root) is None:
        report = fix_paths(root, dry_run=True)
        if not report.changed and not report.problems:  # else the locations are of another place
            write_marker(root)
    target = Path(os.path.abspath(target)) if target else root.with_name(root.name + ".zip")
    part = target.with_name(target.name + ".part")
    try:
        with zipfile.ZipFile(part, "w", strict_timestamps=False) as archive, tempfile.TemporaryDirectory() as folder:
            for database in databases:
                copy = Path(folder) / database.name
                copy_database(database, copy)
                name = f"mlruns/{database.name}" if database.parent == root else database.name
                archive.write(copy, name, zipfile.ZIP_DEFLATED)
            for path in sorted(root.rglob("*")):
                if path not in databases and path != part and path != target:
                    _add(archive, path, f"mlruns/{path.relative_to(root).as_posix()}")
        with zipfile.ZipFile(part) as archive:
            if bad := archive.testzip():
                raise zipfile.BadZipFile(f"{part}: {bad} does not read back; is the disk full?")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    if path.is_dir():
        if not any(path.iterdir()):  # a file store counts on its empty folders
            archive.writestr(name + "/", b"")
    elif path.is_file() and not (len(Path(name).parts) == 2 and name.endswith(LEFT_OUT)):
        kind = zipfile.ZIP_STORED if path.suffix.lower() in STORED else zipfile.ZIP_DEFLATED
        with contextlib.suppress(FileNotFoundError):  # a temporary file of a training that goes on
            archive.write(path, name, kind)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: packed. 2: there is no record to pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder mlruns")
    try:
        target = pack(parser.parse_args(arguments).folder)
    except Refused as error:
        print(f"Refused: {error}", file=sys.stderr)
        return 2
    print(f"{target}  ({target.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
