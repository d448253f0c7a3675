"""Every location that MLflow itself would open in a store: its own classes are asked, those that its server asks."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mlruns_tools.fixed_paths import TRACE_TAGS, Refused, Report, some

Place = tuple[str, str | None]  # whose, and where


def check_places(store: Path, report: Report) -> None:
    """The last word before a dashboard opens: raises Refused for a location that MLflow sees and the repair did not see."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    logging.disable(logging.WARNING)  # of runs that MLflow passes over, with tracebacks
    try:
        found = list(_of_files(store) if store.is_dir() else _of_database(store))
    except Exception as error:  # of whatever kind: what MLflow stumbles over, it would not serve either
        raise Refused(f"{store}: MLflow cannot read it ({error})") from error
    finally:
        logging.disable(logging.NOTSET)
    if unseen := [f"{whose}: {place!r}" for whose, place in found if place and str(place) not in report.seen]:
        raise Refused(f"{store}: MLflow would open what no repair can see there: {some(unseen)}")


def _of_database(store: Path) -> Iterator[Place]:
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion as Version
    from mlflow.store.tracking.dbmodels.models import SqlExperiment as Experiment
    from mlflow.store.tracking.dbmodels.models import SqlLoggedModel as Model
    from mlflow.store.tracking.dbmodels.models import SqlRun as Run
    from mlflow.store.tracking.dbmodels.models import SqlTraceTag as Tag
    from mlflow.store.workspace.dbmodels.models import SqlWorkspace as Workspace
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    from mlruns_tools.dashboard import store_uri

    places = [(Experiment.name, Experiment.artifact_location), (Run.run_uuid, Run.artifact_uri)]
    places += [(Model.model_id, Model.artifact_location), (Version.name, Version.source)]
    places += [(Version.name, Version.storage_location), (Workspace.name, Workspace.default_artifact_root)]
    places += [(Workspace.name, Workspace.trace_archival_location)]
    engine = create_engine(store_uri(store))
    with Session(engine) as session:
        for columns in places:
            yield from session.query(*columns)
        yield from session.query(Tag.request_id, Tag.value).filter(Tag.key.in_(TRACE_TAGS))
    engine.dispose()


def _of_files(store: Path) -> Iterator[Place]:
    from mlflow.entities import ViewType
    from mlflow.store.model_registry.file_store import FileStore as Registry
    from mlflow.store.tracking import SEARCH_MAX_RESULTS_THRESHOLD
    from mlflow.store.tracking.file_store import FileStore
    from mlflow.utils import get_results_from_paginated_fn

    files, registry = FileStore(str(store)), Registry(str(store))

    def page(size: int, token: str | None) -> object:
        return files.search_experiments(ViewType.ALL, max_results=size, page_token=token)

    for experiment in get_results_from_paginated_fn(page, SEARCH_MAX_RESULTS_THRESHOLD):
        yield experiment.name, experiment.artifact_location
        number = experiment.experiment_id
        yield from ((run.run_id, run.artifact_uri) for run in files._list_run_infos(number, ViewType.ALL))
        if experiment.lifecycle_stage == "active":
            yield from ((model.model_id, model.artifact_location) for model in files._list_models(number))
            traces = files._list_trace_infos(number)
            yield from ((trace.trace_id, trace.tags.get(tag)) for trace in traces for tag in TRACE_TAGS)
    for folder in registry._get_all_registered_model_paths():
        for version in registry._list_file_model_versions_under_path(folder):
            yield from ((version.name, place) for place in (version.source, version.storage_location))
