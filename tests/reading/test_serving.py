"""The model as MLflow loads and serves it: without the project, the same readings, and a sentence for whatever is wrong."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from helpers.config import PROJECT
from helpers.kaggle.build import TRAINING, needed_files
from helpers.reading.reader import Reader
from helpers.reading.serving import READING, REQUIRED, SIGNATURE, Service, make_servable
from helpers.record.registry import CER, CHAMPION, EXACT, NAME, register
from helpers.record.runs import record_folder
from helpers.record.tracking import TrackedRun, tracking_uri
from mlruns_tools.fixed_paths import fix_paths
from tests import service
from tests.conftest import CHAMPION_URI
from tests.records import blank_record, client_of

MALFORMED = service.malformed()
LOADING = """
import base64, json, os, sys
import mlflow, pandas
from pathlib import Path

images = pandas.DataFrame({"image": [base64.b64encode(Path(p).read_bytes()).decode() for p in json.loads(sys.argv[1])]})
for record, uri in json.loads(sys.argv[2]):
    mlflow.set_tracking_uri(record)
    table = mlflow.pyfunc.load_model(uri).predict(images)
    where = sys.modules["helpers"].__file__
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "helpers"]
    names = [Path(module.__file__).relative_to(Path(where).parent).as_posix() for module in ours]
    print(json.dumps([table.to_dict("records"), sorted(names), where]))
"""


def travelling() -> set[str]:
    """The files of helpers that stand beside a model's weights."""
    places = [PROJECT / "helpers" / name for name in READING]
    files = [file for place in places for file in ([place] if place.is_file() else place.glob("*.py"))]
    return {file.relative_to(PROJECT / "helpers").as_posix() for file in files}


def pictures(journey) -> list[Path]:
    return [sample.path for sample in journey[1].test.samples]


def test_a_service_reads_as_the_reader_does(served, journey) -> None:
    """Sent together and alone, in both orders."""
    paths = pictures(journey)
    expected = Reader.load(journey[2].model).read(paths)
    for answers in (
        served.read(*(path.read_bytes() for path in paths)),
        served.read(*(path.read_bytes() for path in reversed(paths)))[::-1],
        [served.read(path.read_bytes())[0] for path in paths],
    ):
        assert [answer["text"] for answer in answers] == [reading.text for reading in expected]
        assert [a["confidence"] for a in answers] == pytest.approx([r.confidence for r in expected], rel=1e-3)
        assert all(answer.keys() == {"text", "confidence"} for answer in answers)


@pytest.mark.parametrize("form", ["records", "inputs", "instances", "split", "csv"])
def test_every_form_of_a_request_is_read(form, served, journey) -> None:
    content = pictures(journey)[0].read_bytes()
    text = base64.encodebytes(content).decode() if form != "csv" else base64.b64encode(content).decode()
    bodies = {
        "records": {"dataframe_records": [{"image": text}]},
        "inputs": {"inputs": {"image": [text]}},
        "instances": {"instances": [{"image": text}]},
        "split": {"dataframe_split": {"columns": ["image"], "data": [[text]]}},
    }
    body, kind = (f"image\n{text}\n", service.CSV) if form == "csv" else (json.dumps(bodies[form]), service.JSON)
    status, answer = served.ask(body.encode(), kind)
    assert status == 200 and json.loads(answer)["predictions"] == served.read(content)


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_request_gets_a_sentence(kind: str, served) -> None:
    body, content_type = MALFORMED[kind]
    status, answer = served.ask(body, content_type)
    if content_type in (service.JSON, service.CSV) or "Parquet" in kind:
        assert status == 400, answer
        answer = json.loads(answer)
        assert "stack_trace" not in answer
        answer = answer["message"]
    else:
        assert status == 415
    assert 10 < len(answer) < 250 and "\n" not in answer and "Traceback" not in answer, answer


def test_the_bad_image_of_several_is_named(served, journey) -> None:
    good = pictures(journey)[0].read_bytes()
    status, answer = served.ask(service.records(good, good, service.bad_pictures()["100 megapixels declared"], good))
    expected = "image 2 cannot be read: ValueError: 10000 x 10000 pixels are no captcha; 10000000 at most are read"
    assert status == 400 and json.loads(answer)["message"] == expected


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_bombs_fill_no_memory_and_the_service_lives(served, journey) -> None:
    """The least of them would take 100 MB, were it unpacked."""
    good = pictures(journey)[0].read_bytes()
    before, expected = served.peak(), served.read(good)
    bombs = list(service.bad_pictures().values())
    for bomb in bombs:
        assert served.ask(service.records(bomb))[0] == 400
    assert served.ask(service.records(*bombs))[0] == 400
    assert served.peak() - before < 50
    assert served.read(good) == expected


def test_the_models_own_failure_is_none_of_the_callers(served, journey, monkeypatch, capsys) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    answering = Service()
    answering.load_context(type("Context", (), {"artifacts": {"model": str(journey[2].model)}}))
    monkeypatch.setattr(answering.reader, "engine", fail)
    table = pd.DataFrame({"image": [base64.b64encode(pictures(journey)[0].read_bytes()).decode()]})
    with pytest.raises(MlflowException, match="the model failed; the log of the service says why") as raised:
        answering.predict(None, table)
    assert raised.value.get_http_status_code() == 500 and "mat1 and mat2" in capsys.readouterr().err


def test_it_loads_in_a_fresh_process_without_the_project(journey, tmp_path) -> None:
    """From the folder, from a moved and repaired record, and from the run; only the modules that travel are needed."""
    config, _, result = journey
    shutil.copytree(record_folder(config), tmp_path / "elsewhere" / "mlruns")
    fix_paths(moved := tmp_path / "elsewhere" / "mlruns")
    shutil.copytree(result.model, tmp_path / "model")
    expected = Reader.load(result.model).read(pictures(journey))
    (empty := tmp_path / "empty").mkdir()
    for place, chosen in (
        (tmp_path / "model", [(tracking_uri(moved), str(tmp_path / "model"))]),
        (moved, [(tracking_uri(moved), CHAMPION_URI), (tracking_uri(moved), f"runs:/{result.run_id}/model")]),
    ):
        command = [sys.executable, "-c", LOADING, json.dumps([*map(str, pictures(journey))]), json.dumps(chosen)]
        done = subprocess.run(command, cwd=empty, env=service.alone(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        loaded = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(loaded) == len(chosen)
        for rows, modules, where in loaded:
            assert [row["text"] for row in rows] == [reading.text for reading in expected]
            assert set(modules) <= travelling() and Path(where).is_relative_to(place)
    assert not list(empty.iterdir())


def test_what_a_model_folder_holds(journey, tmp_path) -> None:
    """The weights once, no pickles, no place of the machine that trained; made twice, it is the same."""
    folder = tmp_path / "model"
    shutil.copytree(journey[2].model, folder)
    (folder / "code" / "helpers" / "of_yesterday.py").touch()
    make_servable(folder)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    described = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "serve.py"}
    assert files == described | {"model_weights.pth", "model.json"} | {f"code/helpers/{name}" for name in travelling()}
    assert (
        str(tmp_path.parent) not in (folder / "MLmodel").read_text() and "/tmp" not in (folder / "MLmodel").read_text()
    )
    model = Model.load(folder)
    assert model.signature == SIGNATURE
    assert model.model_size_bytes == sum((folder / n).stat().st_size for n in ("model_weights.pth", "model.json"))
    assert (folder / "requirements.txt").read_text().splitlines() == REQUIRED


def test_what_travels_imports_nothing_that_stays() -> None:
    """But for what only a `runs:/` address needs."""
    lines = {
        line for file in travelling() for line in (PROJECT / "helpers" / file).read_text(encoding="utf-8").splitlines()
    }
    named = {line.split()[1].removeprefix("helpers.") for line in lines if line.strip().startswith("from helpers.")}
    missing = {
        name
        for name in named
        if not {f"{name.replace('.', '/')}{end}" for end in (".py", "/__init__.py")} & travelling()
    }
    assert missing == {"record.runs"}


def test_what_reading_requires_is_what_the_project_requires() -> None:
    assert set(REQUIRED) <= set((PROJECT / "requirements.txt").read_text().splitlines())


@pytest.mark.parametrize("name", TRAINING)
def test_kaggle_gets_the_modules_that_travel(name: str) -> None:
    assert {f"helpers/{file}" for file in travelling()} <= set(needed_files(name))


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> MlflowClient:
    return client_of(blank_record(tmp_path_factory.mktemp("registry"), tmp_path_factory))


def finished(client: MlflowClient, exact: float, cer: float) -> str:
    run = client.create_run(client.search_experiments()[0].experiment_id).info.run_id
    client.log_batch(run, metrics=[Metric(EXACT, exact, 0, 0), Metric(CER, cer, 0, 0)])
    return run


def test_the_alias_moves_only_to_a_better_model(registry: MlflowClient) -> None:
    """Version by version: (exact match, CER, the champion after it)."""
    story = [(0.5, 0.2, 1), (0.4, 0.1, 1), (0.5, 0.2, 1), (0.5, 0.15, 4), (0.5, 0.16, 4), (0.9, 0.3, 6), (0.8, 0.0, 6)]
    runs = []
    for number, (exact, cer, champion) in enumerate(story, 1):
        runs.append(finished(registry, exact, cer))
        facts = {"recipe": "conv_ctc", "data": f"set{number}", "n_val": 104}
        said = register(registry, runs[-1], facts)
        found = registry.get_model_version_by_alias(NAME, CHAMPION)
        assert int(found.version) == champion and found.run_id == runs[champion - 1]
        assert f"version {number} (conv_ctc: {exact:.1%} of 104 validation captchas of set{number} right" in said
        assert f"{'is now' if champion == number else 'stays'} version {champion} (" in said
        tags = registry.get_model_version(NAME, str(number)).tags
        assert tags == {"recipe": "conv_ctc", "data": f"set{number}", "n_val": "104", EXACT: str(exact), CER: str(cer)}
    assert registry.get_model_version(NAME, "3").source == f"{registry.get_run(runs[2]).info.artifact_uri}/model"


def test_a_resumed_run_keeps_its_version(registry: MlflowClient) -> None:
    run = finished(registry, 0.1, 0.9)
    register(registry, run, {"n_val": 9})
    count = len(registry.search_model_versions(f"name = '{NAME}'"))
    registry.log_batch(run, metrics=[Metric(EXACT, 0.95, 1, 1), Metric(CER, 0.01, 1, 1)])
    register(registry, run, {"n_val": 10})
    (version,) = registry.search_model_versions(f"run_id = '{run}'")
    assert version.tags == {EXACT: "0.95", CER: "0.01", "n_val": "10"}
    assert registry.get_model_version_by_alias(NAME, CHAMPION).version == version.version
    assert len(registry.search_model_versions(f"name = '{NAME}'")) == count


def test_a_champion_chosen_by_hand_stays(registry: MlflowClient) -> None:
    chosen = registry.create_model_version(NAME, "file:///elsewhere", await_creation_for=0).version
    registry.set_registered_model_alias(NAME, CHAMPION, chosen)
    said = register(registry, finished(registry, 1.0, 0.0), {})
    assert said.endswith(f"stays version {chosen} (chosen by hand)")
    assert registry.get_model_version_by_alias(NAME, CHAMPION).version == chosen


def test_a_training_is_registered_with_its_result(journey) -> None:
    config, data, result = journey
    client = client_of(record_folder(config))
    (version,) = client.search_model_versions(f"name = '{NAME}'")
    metrics = client.get_run(result.run_id).data.metrics
    assert version.run_id == result.run_id
    assert client.get_model_version_by_alias(NAME, CHAMPION).version == version.version
    assert version.tags == {
        "recipe": "cnn_gru_ctc",
        "data": data.source.name,
        "n_val": str(len(data.val)),
        EXACT: repr(metrics[EXACT]),
        CER: repr(metrics[CER]),
    }


def test_a_server_without_a_registry_fails_no_training(registry: MlflowClient, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("no models are kept here")

    monkeypatch.setattr(registry, "create_registered_model", refuse)
    run = TrackedRun(registry, finished(registry, 1.0, 0.0))
    assert run.registered({}).endswith("was not registered: no models are kept here")
