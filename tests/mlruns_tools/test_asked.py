"""What MLflow reads is what was checked: the repair's own reading beside that of MLflow's classes."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine

from mlruns_tools.asked import check_places
from mlruns_tools.dashboard import open_dashboard
from mlruns_tools.fixed_paths import DATABASE, Refused, _strange, fix_paths
from mlruns_tools.merge import merge
from tests.benchmarks.attacks import make_good
from tests.benchmarks.differential import compare
from tests.hostile import RUN, experiment_meta, file_store, run_meta
from tests.mlruns_tools.test_hostile import tree


def test_no_location_passes_that_only_mlflow_sees(tmp_path: Path) -> None:
    """100 texts and 100 databases made at random: `tests.benchmarks.differential` tries more."""
    found, faults = compare(200, 0, tmp_path)
    assert not faults, faults
    assert {kind: sum(counts.values()) for kind, counts in found.items()} == {"meta.yaml": 100, "database": 100}
    assert all(counts["the same is seen"] > 5 for counts in found.values())  # not all of it is refused
    assert found["meta.yaml"]["reported, not opened"] > 50 and found["database"]["refused"] > 50


def test_every_schema_that_mlflow_ever_had_is_known(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / DATABASE}"
    config = _get_alembic_config(uri)
    revisions = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    engine = create_engine(uri)
    Base.metadata.create_all(engine)  # what the migrations begin with
    odd = {}
    for revision in revisions:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
        with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
            odd[revision] = _strange(connection)
    engine.dispose()
    assert len(odd) > 60 and not any(odd.values()), {name: what for name, what in odd.items() if what}


SCHEMAS = {
    "view": "CREATE VIEW mine AS SELECT * FROM runs",
    "trigger on a table without locations": "CREATE TRIGGER mine AFTER UPDATE ON params BEGIN SELECT 1; END",
    "generated column": "ALTER TABLE tags ADD COLUMN mine TEXT AS (key || 'x')",
    "another case": 'ALTER TABLE runs RENAME COLUMN artifact_uri TO "Artifact_URI"',
    "index of an expression": "CREATE INDEX mine ON runs (upper(artifact_uri))",
    "table": "CREATE TABLE mine (x TEXT)",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two records that are right."""
    folder = tmp_path_factory.mktemp("pair")
    records = tuple(make_good(folder / name) / "mlruns" for name in ("one", "two"))
    for record in records:
        fix_paths(record)
    return records


@pytest.mark.parametrize("statement", SCHEMAS.values(), ids=SCHEMAS)
def test_an_odd_schema_is_refused_by_repair_merge_and_dashboard(pair: tuple[Path, Path], statement: str) -> None:
    odd, good = pair
    database = odd / DATABASE
    was = database.read_bytes()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)
    before = tree(odd), tree(good)
    for tool in (fix_paths, open_dashboard, lambda odd: merge(odd, good), lambda odd: merge(good, odd)):
        with pytest.raises(Refused, match=DATABASE):
            tool(odd)
    assert (tree(odd), tree(good)) == before
    database.write_bytes(was)


def test_the_dashboard_asks_mlflow_and_refuses_what_the_repair_did_not_see(tmp_path: Path, monkeypatch) -> None:
    """As of a spelling that nobody thought of: the repair is made to miss a location."""
    mlruns = make_good(tmp_path) / "mlruns"
    fix_paths(mlruns)

    def blind(*given: object, **more: object) -> object:
        report = fix_paths(*given, **more)
        report.seen.pop()
        return report

    monkeypatch.setattr("mlruns_tools.dashboard.fix_paths", blind)
    with pytest.raises(Refused, match="MLflow would open what no repair can see"):
        open_dashboard(mlruns)


def test_both_kinds_of_stores_are_asked(tmp_path: Path) -> None:
    good = make_good(tmp_path / "good") / "mlruns"
    files = file_store(tmp_path / "files" / "mlruns")
    for mlruns, store in ((good, good / DATABASE), (files, files)):
        fix_paths(mlruns)
        report = fix_paths(mlruns, dry_run=True)
        check_places(store, report)
        report.seen.clear()
        with pytest.raises(Refused, match="no repair can see"):
            check_places(store, report)


def test_a_file_store_changed_after_the_repair_is_not_served(tmp_path: Path) -> None:
    mlruns = file_store(tmp_path / "mlruns")
    fix_paths(mlruns)
    report = fix_paths(mlruns, dry_run=True)
    meta = next(mlruns.glob(f"*/{RUN}/meta.yaml"))
    meta.write_text(run_meta("/etc"))
    with pytest.raises(Refused, match="/etc"):
        check_places(mlruns, report)


def test_experiments_on_every_page_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow.store.tracking.SEARCH_MAX_RESULTS_THRESHOLD", 1)
    mlruns = file_store(tmp_path / "mlruns")
    for number in ("111111111111111111", "222222222222222222"):
        (mlruns / number).mkdir()
        (mlruns / number / "meta.yaml").write_text(experiment_meta(f"/nowhere/{number}", number))
    report = fix_paths(mlruns)
    assert len(report.seen) > 3
    check_places(mlruns, report := fix_paths(mlruns, dry_run=True))
    for place in [place for place in report.seen if "/nowhere/" in place]:
        with pytest.raises(Refused, match=place):
            check_places(mlruns, replace(report, seen=report.seen - {place}))
