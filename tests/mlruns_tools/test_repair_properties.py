"""What holds of every repair, whatever the folders are called: with names that hypothesis makes up."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlruns_tools.fixed_paths import DATABASE, SERVED, Record, Store, _Entry, _Map, _quoted, _scalar, _steps, fix_paths
from tests.hostile import EXPERIMENT, RUN, experiment_meta, run_meta
from tests.mlruns_tools.test_fixed_paths import everything

LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters='/\\:*?"<>|')
NAMES = (
    st.text(LETTERS, min_size=1, max_size=12)
    .map(lambda name: name.strip(" ."))
    .filter(lambda name: name and "%" not in name and len(name.encode()) < 100)
)
FOLDERS = st.lists(NAMES, min_size=1, max_size=3)
OUTSIDE = st.sampled_from(["s3://bucket/a", "dbfs:/a", "/etc", "file:///etc/passwd", "runs:/1/model", "//server/x"])
few = settings(max_examples=25, deadline=None)


def record(mlruns: Path, old: str, others: list[str]) -> Path:
    """A database and a file store in one: a run each, and runs whose locations are elsewhere."""
    for folder in (mlruns / "artifacts" / RUN / "artifacts", mlruns / EXPERIMENT / RUN / "artifacts"):
        folder.mkdir(parents=True)
        (folder / "meta.yaml").write_text(f"artifact_uri: {old}")
    (mlruns / EXPERIMENT / "meta.yaml").write_text(experiment_meta(_quoted(f"{old}/{EXPERIMENT}")), encoding="utf-8")
    location = _quoted(f"{old}/{EXPERIMENT}/{RUN}/artifacts")
    (mlruns / EXPERIMENT / RUN / "meta.yaml").write_text(run_meta(location), encoding="utf-8")
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT)")
        connection.execute("CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT)")
        connection.execute("INSERT INTO experiments VALUES (1, ?)", (f"{old}/artifacts",))
        rows = [(RUN, f"{old}/artifacts/{RUN}/artifacts"), *((f"{i:032x}", other) for i, other in enumerate(others))]
        connection.executemany("INSERT INTO runs VALUES (?, ?)", rows)
    return mlruns


def uris(mlruns: Path) -> list[str]:
    """Of the database, then of the files."""
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection:
        both = "SELECT artifact_location FROM experiments UNION ALL SELECT artifact_uri FROM runs"
        found = [value for (value,) in connection.execute(both)]
    files = (mlruns / EXPERIMENT / "meta.yaml", mlruns / EXPERIMENT / RUN / "meta.yaml")
    return found + [_scalar(file.read_text(encoding="utf-8").split("\n")[0].partition(": ")[2]) for file in files]


@few
@given(old=FOLDERS, new=FOLDERS, others=st.lists(OUTSIDE, max_size=2), scheme=st.sampled_from(["", "file://", "C:"]))
@example(old=["kaggle", "working"], new=["moved é #1"], others=["/etc"], scheme="file://")
@example(old=["'", "{"], new=["- '"], others=[], scheme="")
def test_moved_and_repaired(old: list[str], new: list[str], others: list[str], scheme: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        was = scheme + "/" + "/".join(old) + "/mlruns"
        place = Path(folder, "here", *new)
        mlruns = record(place / "mlruns", was, others)
        before = uris(mlruns)
        report = fix_paths(mlruns)
        after = uris(mlruns)
        home = mlruns.as_uri()
        for a, b in zip(before, after, strict=True):
            assert (b == a) if a in others else b == home + a[len(was) :], (a, b)
        assert len(report.outside) == sum(other.startswith(("/", "file:")) for other in others)
        once = everything(mlruns)
        assert not fix_paths(mlruns).changed and everything(mlruns) == once  # twice is once
        away = Path(folder, "away", *reversed(new), "mlruns")
        away.parent.mkdir(parents=True)
        shutil.move(mlruns, away)
        fix_paths(away)
        assert all(uri.startswith(away.as_uri() + "/") for uri in uris(away) if uri not in others)
        shutil.move(away, mlruns)
        fix_paths(mlruns)
        assert uris(mlruns) == after  # there and back
        fix_paths(mlruns, portable=True)
        assert uris(mlruns) == [a if a in others else a.replace(home + "/", SERVED) for a in after]
        fix_paths(mlruns, portable=False)
        assert uris(mlruns) == after
        users = [path.read_text() for path in mlruns.rglob("artifacts/meta.yaml")]
        assert users == [f"artifact_uri: {was}"] * 2


@given(folders=FOLDERS, drive=st.sampled_from("CDz"), inside=FOLDERS, to=FOLDERS)
def test_windows(folders: list[str], drive: str, inside: list[str], to: list[str]) -> None:
    """A record written on one Windows path and read at another, with the uris that Windows makes."""
    old, root = PureWindowsPath(f"{drive}:/", *folders), PureWindowsPath("D:/", *to, "mlruns")
    if os.name != "nt":  # the present place is then of this machine
        root = Path("/home", *to, "mlruns")
    places = _Map(Record([Store(root, root, frozenset())], [root]), root, root, [(str(old), str(root))])
    wanted = root.joinpath(*inside).as_uri()
    location = old.joinpath(*inside)

    def moved(text: str) -> str | None:
        path = places.decide(_Entry("runs", "x", text, root, ("", 0)))
        return path and places.uri(path, portable=False)

    for text in (str(location), location.as_posix(), location.as_uri(), f"file:///{location.as_posix()}"):
        if text.startswith("file:") and unquote(text) != text and location.as_uri() != text:
            continue
        assert moved(text) == wanted, text
    assert moved(wanted) == wanted
    other = "".join(letter.swapcase() if letter.isascii() else letter for letter in str(old))
    assert moved(f"{other}/x") == root.joinpath("x").as_uri()  # Windows does not tell cases apart
    assert moved(r"\\server\share\x") is None


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1))
def test_what_is_quoted_is_read_back(text: str) -> None:
    assert _scalar(_quoted(text)) == text


@given(
    text=st.text(max_size=40) | st.sampled_from(["file:", "file://", "C:", "C:/", "/", "//", "mlflow-artifacts:/../x"])
)
def test_no_location_leads_out(text: str) -> None:
    """Whatever a record says, what is rewritten lies below its root."""
    root = Path("/home/u/mlruns")
    record = Record([Store(root, root, frozenset())], [root])
    places = _Map(record, root, root, [("/kaggle/working/mlruns", str(root))])
    for location in (text, f"/kaggle/working/mlruns/{text}", f"file:///kaggle/working/mlruns/{text}", SERVED + text):
        path = places.decide(_Entry("runs", "x", location, root, ("", 0)))
        for portable in (True, False) if path else ():
            new = places.uri(path, portable)
            assert new.startswith((root.as_uri(), SERVED))
            assert ".." not in _steps(new)
