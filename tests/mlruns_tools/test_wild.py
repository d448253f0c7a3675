"""The repair against MLflow's own reader, on records as people have them (`tests/wild.py`) and on YAML as it may be."""

import logging
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import chdir, closing, contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.utils.file_utils import local_file_uri_to_path

from mlruns_tools.dashboard import store_uri
from mlruns_tools.fixed_paths import DATABASE, MARKER, Report, _fields, _quoted, fix_paths
from mlruns_tools.undo import undo
from tests.records import blank_record
from tests.wild import ZIPS, Truth, Wild, make, wilds, zipped

some = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # to make a failure smaller takes minutes: add Phase.shrink for it
    suppress_health_check=list(HealthCheck),
)
Seen = dict[str, tuple[str, list[str] | None]]  # {run: (location, files; None where MLflow cannot list them)}


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """MLflow's empty database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        logging.disable(logging.WARNING)
        yield blank_record(tmp_path_factory.mktemp("wild"), tmp_path_factory) / DATABASE
        logging.disable(logging.NOTSET)


@contextmanager
def tree(wild: Wild, blank: Path) -> Iterator[tuple[Path, dict[str, Truth]]]:
    with tempfile.TemporaryDirectory() as folder:
        (scratch := Path(folder, "scratch")).mkdir()
        with chdir(scratch):  # where MLflow makes what it thinks that it needs
            project = Path(folder, "moved é #1", "project")
            yield project, make(wild, project, blank)


def client_of(store: Path) -> MlflowClient:
    uri = store_uri(store) if store.is_file() else store.as_uri()
    return MlflowClient(uri, uri)


def seen(store: Path) -> Seen:
    """What MLflow finds in a store: each run that it both lists and opens. It raises where it cannot read the store."""
    client = client_of(store)
    ids = [experiment.experiment_id for experiment in client.search_experiments(ViewType.ALL)]
    found: Seen = {}
    for name in {run.info.run_id for run in client.search_runs(ids, run_view_type=ViewType.ALL)}:
        with suppress(Exception):
            found[name] = (client.get_run(name).info.artifact_uri, None)
            if "://" not in found[name][0].removeprefix("file://") and not found[name][0].startswith("mlflow-art"):
                found[name] = (found[name][0], sorted(listed(client, name)))
    return found


def listed(client: MlflowClient, run: str, path: str | None = None) -> Iterator[str]:
    for info in client.list_artifacts(run, path):
        yield from listed(client, run, info.path) if info.is_dir else [info.path]


def readable(stores: list[Path]) -> set[str]:
    """The runs that MLflow finds, as far as it does not fail altogether."""
    found = set()
    for store in stores:
        with suppress(Exception):
            found |= set(seen(store))
    return found


def locations(stores: list[Path]) -> dict[tuple[str, str], str]:
    """{(store, row or file): location}, read by other means than the repair's."""
    found: dict[tuple[str, str], str] = {}
    for store in stores:
        if store.is_file():
            sql = (
                "SELECT experiment_id, artifact_location FROM experiments UNION SELECT run_uuid, artifact_uri FROM runs"
            )
            with closing(sqlite3.connect(store)) as connection:
                found |= {(str(store), str(name)): uri for name, uri in connection.execute(sql)}
            continue
        for top in (store, store / ".trash"):
            for file in [*top.glob("*/meta.yaml"), *top.glob("*/*/meta.yaml")]:
                with suppress(yaml.YAMLError, UnicodeDecodeError, AttributeError):
                    values = yaml.load(file.read_bytes().decode(), yaml.CSafeLoader)
                    uri = values.get("artifact_uri", values.get("artifact_location"))
                    found |= {(str(store), str(file)): uri} if isinstance(uri, str) else {}
    return found


def has_files(location: str) -> bool:
    path = Path(local_file_uri_to_path(location)) if re.match("file:|/", location) else Path("/nowhere")
    return any(each.is_file() for each in path.rglob("*"))


def bytes_of(top: Path, without: str | None = None) -> dict[str, bytes | None]:
    """{path: bytes, or None of a folder}."""
    found = {path.relative_to(top).as_posix(): path.read_bytes() if path.is_file() else None for path in top.rglob("*")}
    return {name: data for name, data in found.items() if Path(name).name != without}


def changed(one: dict[str, bytes | None], other: dict[str, bytes | None]) -> list[str]:
    return sorted(name for name in one | other if one.get(name, 0) != other.get(name, 0))


def check(truth: dict[str, Truth], report: Report, stores: Iterable[Path]) -> Seen:
    """What MLflow finds in the stores is what the truth says, and as many runs as the repair says."""
    found: Seen = {}
    for store in stores:
        found |= seen(store)
    wanted = {run for run, each in truth.items() if each.found}
    assert set(found) == wanted, report.problems
    told = " ".join(report.problems)
    for run, (location, files) in found.items():
        if truth[run].files is not None and f"{run}/meta.yaml" not in told:
            assert (files or []) == list(truth[run].files), (run, location)
    strange = "is none that MLflow writes" in told  # which MLflow may read and the repair does not guess at
    assert report.usable == len(found) or (strange and report.usable < len(found)), (report.usable, report.problems)
    return found


@some
@given(wild=wilds)
def test_mlflow_finds_what_is_there(wild: Wild, blank: Path) -> None:
    with tree(wild, blank) as (project, truth):
        stores = list(dict.fromkeys(each.store for each in truth.values()))
        before, files = locations(stores), {key: has_files(uri) for key, uri in locations(stores).items()}
        copy = project.with_name("before")
        shutil.copytree(project, copy)
        could = readable([copy / store.relative_to(project) for store in stores])
        shutil.rmtree(copy)
        around = bytes_of(project.parent.parent)
        report = fix_paths(project)
        inside = project.relative_to(project.parent.parent).as_posix()
        assert not changed(_outside(around, inside), _outside(bytes_of(project.parent.parent), inside))
        for key, uri in locations(stores).items():
            assert not files.get(key) or has_files(uri), f"{before[key]} has files, {uri} has none"
        once = bytes_of(project)
        fix_paths(project)
        assert not changed(bytes_of(project), once)  # twice is once
        found = check(truth, report, stores)
        assert could <= set(found)


def _outside(found: dict[str, bytes | None], inside: str) -> dict[str, bytes | None]:
    return {name: data for name, data in found.items() if name != inside and not name.startswith(f"{inside}/")}


@some
@given(wild=wilds, whole=st.booleans())
def test_there_and_back(wild: Wild, whole: bool, blank: Path) -> None:
    """A dry run writes nothing, and after an undo all is as it was."""
    with tree(wild, blank) as (project, _):
        source = (
            project
            if whole or not any(store.path.startswith("mlruns") for store in wild.stores)
            else project / "mlruns"
        )
        was = bytes_of(project.parent.parent)
        dry = fix_paths(source, dry_run=True)
        assert not changed(bytes_of(project.parent.parent), was)
        report = fix_paths(source)
        assert (dry.changed, dry.made, dry.aside) == (report.changed, report.made, report.aside)
        if report.copy:
            undo(source)
            assert not changed(bytes_of(project.parent.parent), was)
        else:  # a record that was right may get a marker
            assert not changed(bytes_of(project.parent.parent, MARKER), was)


@some
@given(wild=wilds, prefix=st.sampled_from(ZIPS), empty=st.booleans(), kept=st.booleans())
def test_from_a_zip(wild: Wild, prefix: str, empty: bool, kept: bool, blank: Path) -> None:
    """The same of what was zipped, by whatever means, and unpacked elsewhere."""
    with tree(wild, blank) as (project, truth):
        inside = all(each.store.is_relative_to(project / "mlruns") for each in truth.values())
        lies_in = {run.place for store in wild.stores for run in store.runs}
        prefix = (
            prefix if (inside and not lies_in & {"server", "server host", "other"}) else prefix.replace("mlruns/", "")
        )
        archive = project.parent.parent / "mlruns.zip"
        zipped(project, prefix, archive, empty)
        if not kept:
            shutil.rmtree(project)
        around = bytes_of(project.parent.parent)
        report = fix_paths(archive, to := project.parent.parent / "into é")
        assert not changed(_outside(bytes_of(to.parent), to.name), around)
        once = bytes_of(to)
        assert fix_paths(archive, to).source == report.source
        assert not changed(bytes_of(to), once)
        check(truth, report, {_now(each.store, run, to) for run, each in truth.items() if each.found})


def _now(store: Path, run: str, to: Path) -> Path:
    """Where a store of this run is now."""
    paths = list(to.rglob(store.name))
    if store.suffix:
        return next(p for p in paths if p.stat().st_size and any(run == name for _, name in locations([p])))
    return max(paths, key=lambda path: len([*path.glob(f"*/{run}/*"), *path.glob(f".trash/*/{run}/*")]))


# --- meta.yaml against YAML's own reader -----------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
URIS = st.sampled_from(
    ["/kaggle/working/mlruns/1/r", "C:\\Users\\x y\\mlruns", "file:///home/a%20b/é/日本", "mlruns/0"]
)
LONG = st.lists(URIS | TEXTS, min_size=1, max_size=6).map(" ".join)  # MLflow's dumper folds what is longer than 80
VALUES = st.none() | st.integers() | st.booleans() | TEXTS | LONG | st.builds(list)
KEYS = ("artifact_uri", "end_time", "name", "run_id", "tags", "user_id")


def dumped(values: dict[str, object]) -> str:
    """As MLflow writes it."""
    return yaml.dump(values, default_flow_style=False, allow_unicode=True, Dumper=yaml.CSafeDumper)


SPELLED = (  # the line of a location, some of them another location than it seems; URI stands for one
    r"KEY: !!str URI\n ¦ KEY: &a URI\nother: *a\n ¦ name: &a URI\nKEY: *a\n ¦ KEY: ! URI\n ¦ "
    r"{KEY: 'URI', name: x}\n ¦ KEY: |\n  URI\n ¦ KEY: >-\n  URI\n  more\n ¦ KEY:\tURI\n ¦ "
    r"KEY: URI\t# a comment\n ¦ KEY: URI # a comment\n ¦ KEY: URI#no comment\n ¦ KEY:\n  URI\n ¦ "
    r"KEY: URI\n  more\n ¦ KEY: URI\n\n  more\n ¦ KEY: URI\n  # a comment\n ¦ "
    r"""KEY: "a\\\n  b\\x41\\u00e9\\ \\/\\N\\L"\n ¦ KEY: "a \\\n\n  b"\n ¦ KEY: 'it''s\n\n  URI'\n ¦ """
    r"""KEY: 'a\n  name: b'\n ¦ KEY: "a\nname: b"\n ¦ KEY: 'URI' \n ¦ KEY: 'URI' # a comment\n ¦ """
    r"KEY: URI\u2028more\n ¦ KEY: URI\x85name: b\n ¦ KEY: URI\u2029KEY: b\n ¦ KEY: 'URI\u2028 more'\n ¦ "
    r"KEY: URI\nKEY: /second\n ¦ <<: {KEY: URI}\n ¦ base: &b\n  KEY: URI\n<<: *b\n ¦ ? KEY\n: URI\n ¦ "
    r"""'KEY': URI\n ¦ "KEY": URI\n ¦ "artifact\\u005furi": URI\n ¦ KEY : URI\n ¦  KEY: URI\n ¦ """
    r"---\nKEY: URI\n ¦ KEY: URI\n...\n ¦ KEY: URI\n--- \nKEY: b\n ¦ %YAML 1.1\n---\nKEY: URI\n ¦ "
    r"tags:\n  KEY: /inner\nKEY: URI\n ¦ tags:\n- KEY: /inner\n ¦ tags: |\n  x\nKEY: URI\n ¦ "
    r"tags: 'x\n\nKEY: /inner'\n ¦ KEY: - URI\n ¦ KEY: URI\n- b\n ¦ KEY: [URI]\n ¦ KEY: 0o17\n ¦ "
    r"KEY: URI: b\n ¦ KEY: ~\n ¦ KEY: URI\n~\n ¦ KEY: URI\n  : b\n ¦ KEY: URI\r  more\r ¦ KEY: URI\x0c\n ¦ "
    r"KEY: URI\x0b  more\n ¦ KEY: URI\x1c  more\n ¦ KEY: \xa0URI\xa0\n ¦ KEY: URI\u3000\n ¦ "
    r"\ufeffKEY: \ufeffURI\n ¦ \ufeff\ufeffKEY: URI\n ¦ KEY:URI\n ¦ # KEY: b\nKEY: URI\n ¦ "
    r"KEY: URI\n#name: b\n ¦ KEY: URI\n\tmore\n ¦ KEY: URI\n \tmore\n"
)


LETTERS = "\n\r\t #:'\"-&*!|>%@`?{}[]\\,é\x85\u2028\ufeffa~ "
mutations = st.tuples(st.integers(0, 10**6), st.integers(0, 4), st.sampled_from(LETTERS))  # (where, letters gone, new)


def mutated(text: str, changes: list[tuple[int, int, str]]) -> str:
    for place, gone, new in changes:
        at = place % (len(text) + 1)
        text = text[:at] + new + text[at + gone :]
    return text


tried: Counter[str] = Counter()


def compare(text: str) -> None:
    """`_fields` says what YAML says of a text's location, or refuses it."""
    try:
        values = yaml.load(text, yaml.CSafeLoader)
        there = isinstance(values, dict) and "artifact_uri" in values
        says = ("" if values["artifact_uri"] is None else values["artifact_uri"]) if there else None
    except (yaml.YAMLError, ValueError, TypeError):
        says = ValueError  # MLflow cannot read it
    try:
        field = _fields(text).get("artifact_uri")
    except ValueError:
        tried["refused"] += 1
        return
    tried["read" if says is not ValueError else "read though it is no YAML"] += 1
    if says is ValueError or not isinstance(says, str | None):
        return
    assert (field[2] if field else None) == says, text


@settings(some, max_examples=400)
@given(values=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1), uri=TEXTS | LONG)
def test_what_mlflow_writes_is_read(values: dict[str, object], uri: str) -> None:
    text = dumped({**values, "artifact_uri": uri})
    start, end, value = _fields(text)["artifact_uri"]
    assert value == uri == yaml.load(text, yaml.CSafeLoader)["artifact_uri"]
    new = f"{text[:start].rstrip(' ')} {_quoted('file:///new/it' + chr(39) + 's')}{text[end:]}"
    assert yaml.load(new, yaml.CSafeLoader) == {**values, "artifact_uri": "file:///new/it's"}


@settings(some, max_examples=800)
@given(data=st.data())
def test_no_other_location_is_read(data: st.DataObject) -> None:
    uri = data.draw(URIS)
    values = data.draw(st.dictionaries(st.sampled_from(KEYS[1:]), VALUES, max_size=3))
    line = data.draw(st.sampled_from(SPELLED.split(" ¦ "))).encode("latin1").decode("unicode_escape")
    line = line.replace("KEY", "artifact_uri").replace("URI", uri)
    before = dumped(values) if values else ""
    text = data.draw(st.sampled_from([line, before + line, line + before, dumped({**values, "artifact_uri": uri})]))
    compare(mutated(text, data.draw(st.lists(mutations, max_size=3))))
