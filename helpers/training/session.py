"""A training that was interrupted: found again, in the work folder or an attached output, and made ready to go on.

`checkpoints/training.json` in a work folder says which training is unfinished there; it goes when the training is done.
"""

import hashlib
import json
import os
import re
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from helpers.config import Config, on_kaggle
from helpers.data.module import CaptchaData
from helpers.kaggle.inputs import INPUT, files_of, mounts
from helpers.output import cause, shown
from helpers.training.checkpoints import BEST, LAST, set_aside
from mlruns_tools.fixed_paths import PREFIX, UNSOUND, Refused, _blocks, _opened, blocks_of, check_size, place, read
from mlruns_tools.guard import Guarded
from mlruns_tools.merge import locked, merge

STATE = "checkpoints/training.json"
PROCESS = "checkpoints/process"  # the id of the process that has the work folder
FREE = (
    "device",
    "devices",
    "precision",
    "torch",
    "pytorch_lightning",
    "data",
    "resume",
    "max_hours",
    "workers",
    "cache",
)


@dataclass(frozen=True)
class Session:
    """A training, in one or more sittings."""

    id: str  # a tag of its MLflow run
    resume: Path | None  # the checkpoint to go on from; None: from the beginning
    tested: bool  # in an earlier sitting, which time or disk cut short


@contextmanager
def alone(config: Config) -> Iterator[None]:
    """The work folder for one training, as long as it lasts or its process lives. Raises Refused where another has it."""
    process, whose = config.work / PROCESS, "another process"
    process.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError, ValueError, Refused):
        pid = int(read(process))
        if os.name != "nt":
            os.kill(pid, 0)  # of one that is gone, OSError
        whose = f"process {pid}"
    with locked(
        config.work,
        f"{whose} trains in {config.work} already. Wait for it or end it, or set CAPTCHA_WORK to another folder for this"
        " training, as in CAPTCHA_WORK=work2",
    ):
        place(process, [str(os.getpid()).encode()])
        try:
            yield
        finally:
            process.unlink(missing_ok=True)


def begin(config: Config, facts: Mapping[str, object], data: CaptchaData) -> Session:
    """The interrupted training of the same settings and captchas, else a new one, written down in the work folder.

    What is found in an attached output is copied: its checkpoints, and its record into that of the work folder.
    """
    facts = _key(facts, data)
    folder = config.work / STATE
    found = _find(config, facts) if config.resume == "auto" and not _by_torchrun() else None
    if found is None:
        _clear(folder.parent)
        found = {"id": uuid.uuid4().hex, "facts": facts}
    place(folder, [json.dumps(found, indent=1).encode()])
    return Session(found["id"], checkpoint(config), found.get("tested", False))


def _clear(folder: Path) -> None:
    """Room for a new training. What was set aside, and what is none of ours, stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / Path(STATE).name, *(folder / name for name in (LAST, f"{LAST}.part", BEST))):
        path.unlink(missing_ok=True)
    for part in folder.glob(f"{PREFIX}*"):  # of a process that was killed
        part.unlink()


def _by_torchrun() -> bool:
    """Whether torchrun started this process: then others, perhaps on other hosts, do not see its checkpoints."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def checkpoint(config: Config) -> Path | None:
    """The checkpoint of the work folder's unfinished training; None where it has none yet."""
    if _by_torchrun():
        return None
    last = (config.work / STATE).with_name(LAST)
    return last if last.is_file() and last.with_name(Path(STATE).name).is_file() else None


def pause(config: Config) -> None:
    """Notes that a training which was cut short has been tested and may go on."""
    state = config.work / STATE
    noted = json.loads(state.read_text(encoding="utf-8")) | {"tested": True}
    place(state, [json.dumps(noted, indent=1).encode()])


def end(config: Config) -> None:
    """Notes that the training is done; nothing is left to go on with."""
    (config.work / STATE).unlink(missing_ok=True)
    (config.work / STATE).with_name(LAST).unlink(missing_ok=True)


def _key(facts: Mapping[str, object], data: CaptchaData) -> dict[str, str]:
    """What must agree: settings as text, and a hash of every captcha: its name, text and side, and its pixels as read."""
    rows = [(name, text, side) for name, text, side, _ in data.split_rows()]
    captchas = hashlib.sha256(json.dumps(rows).encode())
    for dataset in data.sides.values():
        for width in sorted(dataset.blocks):
            captchas.update(dataset.blocks[width])
    return {name: str(value) for name, value in facts.items() if name not in FREE} | {"captchas": captchas.hexdigest()}


def _find(config: Config, facts: dict[str, str]) -> dict[str, object] | None:
    for state in (config.work / STATE, *_attached()):
        try:
            found = _read(state)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError, Refused) as error:
            print(f"{state} cannot be read ({cause(error)}): which training it speaks of is not known")
            if state == config.work / STATE:
                for path in (state, *(state.with_name(name) for name in (LAST, BEST))):
                    if os.path.lexists(path):
                        print(f"{path} is {set_aside(path).name} now")
            continue
        theirs = found["facts"]
        if differ := sorted(name for name in facts.keys() | theirs.keys() if facts.get(name) != theirs.get(name)):
            values = ", ".join(f"{name} {theirs.get(name)} there, {facts.get(name)} here" for name in differ)
            print(
                f"the unfinished training in {state.parent.parent} is another one ({shown(values[:300])}): beginning anew"
            )
            continue
        if state != config.work / STATE:
            _bring(state.parent.parent, config)
        print(
            f"going on with the training that was interrupted in {state.parent.parent}; CAPTCHA_RESUME=off begins anew"
        )
        return found
    return None


def _read(state: Path) -> dict[str, object]:
    """What a `training.json` says. Raises ValueError for what this file does not write."""
    found = json.loads(read(state))
    sound = isinstance(found, dict) and isinstance(found.get("facts"), dict)
    if not sound or not re.fullmatch("[0-9a-f]{32}", str(found.get("id"))):
        raise ValueError("it names no training")
    return found


def _attached() -> Iterator[Path]:
    """The same file in the attached outputs of earlier sessions, in both layouts; of a zip what it would unpack to."""
    outputs = [*INPUT.glob("notebooks/*/*"), *mounts(INPUT)] if on_kaggle() else []
    for file in (file for output in outputs for file in files_of(output)):
        if file.as_posix().endswith(f"/{STATE}"):
            yield file
        elif file.suffix == ".zip" and zipfile.is_zipfile(file) and (folder := _unpacked(file)):
            yield folder / STATE


def _unpacked(archive: Path) -> Path | None:
    """A temporary folder with the checkpoints and the record of a zipped output; None for any other zip."""
    wanted = {STATE, "mlruns.zip", *(Path(STATE).with_name(name).as_posix() for name in (LAST, BEST))}
    try:
        with _opened(archive) as members:
            infos = {info.filename: info for info in members.infolist() if info.filename in wanted}
            if STATE not in infos:
                return None
            check_size(list(infos.values()), archive)
            folder = Guarded().folder
            (folder / STATE).parent.mkdir()
            for name, info in infos.items():
                place(folder / name, _blocks(members, info))
    except (Refused, *UNSOUND) as error:
        print(f"{archive} cannot be gone on with: {cause(error)}")
        return None
    return folder


def _bring(output: Path, config: Config) -> None:
    for source in (output / "mlruns.zip", output / "mlruns"):
        if source.exists():
            try:
                merge(source, config.work / "mlruns")
                break
            except Refused as error:
                print(f"the record {source} cannot be used: {error}")
    for name in (BEST, LAST, Path(STATE).name):  # the last one makes them count
        source = output / "checkpoints" / name
        if source.is_file():
            (config.work / STATE).parent.mkdir(parents=True, exist_ok=True)
            place((config.work / STATE).with_name(name), blocks_of(source))
