"""Take the last repair of a record back, byte by byte: `python mlruns_tools/fixed_paths.py RECORD --undo`.

Before a repair changes a file, it puts it as it is into `repair-1.undo.zip` in the record's folder, with a list of what else
it is about to do; without this file, what lies below `files/` in that zip can be put back by hand.
"""

import filecmp
import json
import os
import shutil
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path

from mlruns_tools.fixed_paths import (
    ASIDE,
    COPY,
    MARKER,
    MOST_LIST,
    UNSOUND,
    Refused,
    _blocks,
    _leads_out,
    _opened,
    blocks_of,
    check_size,
    look,
    once_begun,
    place,
    read,
    sync,
)


def undo(source: Path | str) -> list[str]:
    """Take the last repair of a record back: its files as they were, byte by byte. Returns their names.

    Raises Refused, with nothing changed, where no copy is, or a file has changed since.
    """
    record = look(source)
    copies = [
        path
        for base in record.bases
        for path in base.iterdir()
        if COPY.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    ]
    if not copies:
        raise Refused(f"{record.root} holds no copy that a repair left (repair-1.undo.zip).")
    last = max(copies, key=lambda path: (path.stat().st_mtime_ns, int(COPY.fullmatch(path.name)[1])))
    places = [*record.bases, *(base.with_name(base.name + ASIDE) for base in record.bases)]
    databases = {store.path for store in record.stores if store.is_database}

    def path_of(name: str) -> Path:
        path = Path(os.path.normpath(last.parent / name))
        inside = any(path != place and path.is_relative_to(place) for place in places) or path in databases
        if not inside or _leads_out(path.parent, path.parent.parent):
            raise Refused(f"{last} speaks of {name!r}, which is no file of this record.")
        return path

    with _opened(last) as archive, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            infos = [info for info in archive.infolist() if info.filename.startswith("files/")]
            check_size(infos, last)
            if archive.getinfo("undo.json").file_size > MOST_LIST:
                raise Refused(f"{last} is no copy that a repair left: its list is too long.")
            told = json.loads(b"".join(_blocks(archive, archive.getinfo("undo.json"))))
            before = {info.filename[6:]: Path(folder, str(n)) for n, info in enumerate(infos)}
            for (name, copy), info in zip(before.items(), infos, strict=True):
                place(copy, _blocks(archive, info))
                _check_same(path_of(name), name, copy, told)
            moved = [(path_of(here), path_of(there)) for here, there in told["moved"]]
            gone = [path_of(name) for name in told["new"]]
            if {path.name for path in gone} - {MARKER} or not all(_aside_of(there) for _, there in moved):
                raise Refused(f"{last} speaks of files that no repair makes or moves.")
            made = [path_of(name) for name in told["made"]]
        except (*UNSOUND, KeyError, TypeError) as error:
            raise Refused(f"{last} is no copy that a repair left ({error!r}).") from error
        with once_begun([last], "cure that, then go back again."):
            for name, copy in before.items():
                place(path_of(name), blocks_of(copy))
            _put_back(moved)
            for path in gone:
                path.unlink(missing_ok=True)
            for path in made:
                with suppress(OSError):  # used since, or gone
                    path.rmdir()
            last.unlink()
            sync(last.parent)
    return [*before, *told["made"], *(here for here, _ in told["moved"])]


def _put_back(moved: list[tuple[Path, Path]]) -> None:
    for here, there in moved:
        if there.exists():
            if here.name == ".git" and here.is_file():
                here.unlink()
            shutil.move(there, here)
            with suppress(OSError):  # not empty
                for parent in (parent for parent in there.parents if _aside_of(parent / "x")):
                    parent.rmdir()


def _aside_of(path: Path) -> Path | None:
    return next((parent for parent in path.parents if parent.name.endswith(ASIDE)), None)


def _check_same(path: Path, name: str, copy: Path, told: dict) -> None:
    """Raises Refused where the file is neither as it was, in `copy`, nor as the repair left it."""
    if path.name == MARKER or (path.is_file() and filecmp.cmp(path, copy, shallow=False)):
        return
    if name in told["databases"]:  # SQLite counts its commits in the first page; a repair is one
        before, now = (next(blocks_of(each), b"") if each.is_file() else b"" for each in (copy, path))
        counts = [int.from_bytes(data[24:28], "big") for data in (before, now)]
        same = counts[1] == (counts[0] + 1) % 2**32 and before[18:20] == now[18:20] == b"\1\1"
    else:
        same = path.is_file() and zlib.crc32(read(path)) == told["files"][name]
    if not same:
        raise Refused(f"{path} has changed since the repair, which going back would lose. Nothing was changed.")
