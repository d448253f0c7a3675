"""What strangers send is refused or reported, and nothing around the record changes."""

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlruns_tools import fixed_paths
from mlruns_tools.fixed_paths import DATABASE, Refused, fix_paths, main
from tests.benchmarks.attacks import attack, make_good, run
from tests.hostile import EXPERIMENT, HARMLESS, REFUSED, REPORTED, RUN, VICTIM, ZIPS, Maker, file_store


def made(maker: Maker, tmp_path: Path) -> Path:
    (tmp_path / VICTIM).write_text("untouched")
    (tmp_path / "inbox").mkdir()
    try:
        return maker(tmp_path / "inbox")
    except OSError:
        pytest.skip("this machine does not let us make links")


def tree(folder: Path, but: Path | None = None) -> dict[str, bytes | str]:
    """{path: contents, or where a link leads} of all that lies in the folder, `but` for one inside."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if but is None or not path.is_relative_to(but):
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
            found[path.relative_to(folder).as_posix()] = content
    return found


def test_there_are_enough() -> None:
    assert len(ZIPS) >= 25 and len(REFUSED) + len(REPORTED) >= 25


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_is_refused(name: str, tmp_path: Path) -> None:
    source = made(ZIPS[name], tmp_path)
    before = tree(tmp_path)
    assert main([str(source)]) == 2
    assert main([str(source), "--dry-run"]) == 2
    assert tree(tmp_path) == before


@pytest.mark.parametrize("limit", ["MOST_MEMBERS", "MOST_BYTES"])
def test_too_much_is_refused(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(ZIPS["a wrong size"], tmp_path)
    monkeypatch.setattr(fixed_paths, limit, 1)
    with pytest.raises(Refused, match="too much for a record"):
        fix_paths(source)


@pytest.mark.parametrize("name", REFUSED)
def test_a_record_is_refused(name: str, tmp_path: Path) -> None:
    source = made(REFUSED[name], tmp_path)
    before = tree(tmp_path)
    assert main([str(source)]) == 2
    assert tree(tmp_path) == before


def locations(mlruns: Path) -> list[str]:
    if not (mlruns / DATABASE).exists():
        return [path.read_text().split("\n")[0].partition(": ")[2] for path in sorted(mlruns.glob("*/*/meta.yaml"))]
    with closing(sqlite3.connect(mlruns / DATABASE)) as connection:
        query = "SELECT artifact_uri FROM runs WHERE run_uuid <> ?"
        return [location for (location,) in connection.execute(query, (RUN,))]


@pytest.mark.parametrize("name", REPORTED)
def test_a_record_is_reported_and_not_rewritten(name: str, tmp_path: Path) -> None:
    source = made(REPORTED[name], tmp_path)
    before, around = locations(source), tree(tmp_path, but=source)
    report = fix_paths(source)
    assert report.exit_code == 1 and len(report.outside) + len(report.problems) == 1, report
    assert locations(source) == before and tree(tmp_path, but=source) == around
    if before == [name]:
        assert repr(name) in report.outside[0] and repr(name) in str(report)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_record_is_repaired_and_nothing_around_it(name: str, tmp_path: Path) -> None:
    source = made(HARMLESS[name], tmp_path)
    around = tree(tmp_path, but=source)
    report = fix_paths(source)
    assert report.exit_code == 0 and report.changed["runs"] == 1, report
    assert tree(tmp_path, but=source) == around
    assert not fix_paths(source).changed


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory, pipes and processes are Linux's here")
def test_whatever_is_generated_is_survived(tmp_path: Path) -> None:
    """Five of each kind, with an eighth of the memory that the tools may take: `tests.benchmarks.attacks` tries more."""
    found = attack(55, seed=7, limit=128 * 2**20, folder=tmp_path)
    assert len(found) == 11 and not [each.fault for outcomes in found.values() for each in outcomes if each.fault]
    statuses = {name: {each.status for each in outcomes} for name, outcomes in found.items()}
    assert statuses["zip: work files"] == {0} and statuses["zip: bombs"] >= {2}


HEADS = [
    "",
    "a: ",
    "a: '",
    'a: "',
    "a: x",
    "a:\n",
    "a:\n- ",
    "file://",
    "/x",
    "C:\\",
    "CREATE TABLE t (x",
    "CREATE TABLE t (x DEFAULT '",
]
UNITS = st.sampled_from(" \t\n'\"\\-:x1/") | st.text(
    alphabet=" \t\n\r'\"\\-:#x1(){}[]&*!|>%@`,?/._~=", min_size=1, max_size=3
)
ENDS = st.sampled_from(["", "'", '"', "x'", 'x"', "\n", "\n z'", "x)"]) | st.text(alphabet=" \n'\"\\-:#x1/", max_size=3)
READERS = {
    "meta.yaml": fixed_paths._fields,
    "schema": fixed_paths._odd,
    "location": fixed_paths._steps,
    "location's kind": fixed_paths._is_remote,
    "value to write": fixed_paths._quoted,
    "metric": lambda text: fixed_paths._are_values(text.encode()),
    "name": fixed_paths.shown,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@settings(max_examples=300, deadline=2_000, suppress_health_check=[*HealthCheck], derandomize=True)
@given(head=st.sampled_from(HEADS), unit=UNITS, end=ENDS)
@example(head="a: 'x", unit=" ", end="y'\n")
def test_no_text_takes_long(read: Callable[[str], object], head: str, unit: str, end: str) -> None:
    """A few characters 20,000 times: what backtracks, or is quadratic, takes minutes."""
    with suppress(ValueError, fixed_paths._Broken):
        read(head + unit * 20_000 + end)


def test_blanks_within_a_quoted_text_are_folded_in_time() -> None:
    """Once this took 160 seconds."""
    for text in ("'x{}y\n  z'", '"x{}y\n  z"'):
        assert fixed_paths._scalar(text.format(" " * 100_000)) == f"x{' ' * 100_000}y z"


@pytest.fixture(scope="module")
def good_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_good(tmp_path_factory.mktemp("good")) / "mlruns.zip"


@pytest.mark.parametrize("name", ["metrics", "params", "artifacts", "tags/note", "artifacts/x", "meta.yaml"])
def test_a_link_that_leads_round_in_a_circle_is_no_traceback(name: str, good_zip: Path, tmp_path: Path) -> None:
    for tool in ("repair", "pack", "merge", "into"):
        mlruns = file_store(tmp_path / tool / "mlruns")
        path = mlruns / EXPERIMENT / RUN / name
        path.parent.mkdir(exist_ok=True)
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.symlink_to(path)
        assert run(mlruns, [] if tool == "repair" else [tool], tmp_path / tool, good_zip) in (0, 1, 2)
