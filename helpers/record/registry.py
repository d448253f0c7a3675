"""The model registry: each run's model is a version of `captcha-ocr`, and the best on validation is its `champion`."""

from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

NAME, CHAMPION = "captcha-ocr", "champion"
EXACT, CER = "best_val_exact", "best_val_cer"  # of a run and, as tags, of its version: what the champion is chosen by


def register(client: MlflowClient, run_id: str, facts: Mapping[str, object]) -> str:
    """Makes the model of a run a version; moves the alias to it where it is better on validation than the champion.

    Better is a higher exact match, or the same with a lower character error rate. A run that was registered before keeps
    its version. The `facts` become tags beside the result: `recipe`, `data` and `n_val`, since a champion is the best on
    its own data only. A champion without a result in its tags was chosen by a person and stays. Returns what was done, in
    a sentence.
    """
    _make_model(client)
    number = _version(client, run_id).version
    results = {name: repr(client.get_run(run_id).data.metrics[name]) for name in (EXACT, CER)}
    for name, value in {**facts, **results}.items():
        client.set_model_version_tag(NAME, number, name, str(value))
    version, champion = client.get_model_version(NAME, number), _champion(client)
    if champion is None or (EXACT in champion.tags and _rank(version) > _rank(champion)):
        client.set_registered_model_alias(NAME, CHAMPION, number)
        champion = version
    if champion.version == version.version:
        return f"{NAME}@{CHAMPION} is now version {_result(version)}"
    return f"registered as {NAME} version {_result(version)}; {NAME}@{CHAMPION} stays version {_result(champion)}"


def _make_model(client: MlflowClient) -> None:
    try:
        client.create_registered_model(NAME, description="Reads captchas: base64 in, text and confidence out.")
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def _version(client: MlflowClient, run_id: str) -> ModelVersion:
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if version.name == NAME:
            return version
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    return client.create_model_version(NAME, source, run_id, await_creation_for=0)


def _champion(client: MlflowClient) -> ModelVersion | None:
    number = client.get_registered_model(NAME).aliases.get(CHAMPION)
    return client.get_model_version(NAME, str(number)) if number else None


def _rank(version: ModelVersion) -> tuple[float, float]:
    """More is better."""
    return float(version.tags[EXACT]), -float(version.tags[CER])


def _result(version: ModelVersion) -> str:
    tags = version.tags
    if EXACT not in tags:
        return f"{version.version} (chosen by hand)"
    exact, cer = float(tags[EXACT]), float(tags[CER])
    of = f"{tags.get('n_val', 'the')} validation captchas of {tags.get('data', 'its data')}"
    return f"{version.version} ({tags.get('recipe', '')}: {exact:.1%} of {of} right, CER {cer:.2%})"
