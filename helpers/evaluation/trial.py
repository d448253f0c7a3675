"""Models on captchas that none of them was trained on: which of both to take, and what the models read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import Run

from helpers.config import Config, as_source
from helpers.data.collection import Collection, collect
from helpers.data.dataset import CaptchaDataset
from helpers.data.module import SPLIT_FILE
from helpers.data.transforms import eval_transform
from helpers.evaluation.calibration import PRECISIONS, Acceptance, accept, acceptance_name
from helpers.evaluation.seen import Captcha, SplitList, judge_on
from helpers.output import say, shown
from helpers.pictures.opening import DataError, first_names
from helpers.reading.reader import Reader
from helpers.record.runs import download_model, finished_runs, record_name, record_uri
from helpers.sources.names import relative_name
from helpers.synthetic.captchas import Synthetic
from helpers.text.spelling import Reading

MOST = 4  # models that are judged where none is named


@dataclass(frozen=True)
class Model:
    """A model that is judged."""

    name: str
    reader: Reader
    run: Run | None = None  # None: a model folder, of which nothing else is known
    sides: SplitList | None = None  # None: what it was trained on is not known


@dataclass(frozen=True)
class Trial:
    """Models, the best by validation first, and what they read on captchas that none of them was trained on."""

    models: list[Model]
    test: CaptchaDataset  # images as the first model sees them
    readings: list[list[Reading]]  # of each model, in the order of `test`

    def __str__(self) -> str:
        lines = [f"{len(self.test)} captchas, read by"]
        lines += [f"  {shown(m.name)}, out of {shown(m.reader.spelling.charset)}" for m in self.models]
        return "\n".join(lines)


def judge(config: Config) -> Trial:
    """Lets the chosen models read what may judge them all; says what was chosen, what was left out, and why.

    The captchas are the first run's test side where the source holds at least half of it, else all that `config.data`
    names. What each run was trained on its split list tells (see `helpers.evaluation.seen`); a model folder has none, which is
    said. Where no runs are named, up to MOST with the same test side as the best one are judged. Raises DataError
    where there is nothing to judge on, and where a run was trained on more than half of the captchas.
    """
    runs = choose_runs(config)
    first = _model(config, runs[0], runs) if runs else Model(str(config.model), Reader.load(str(config.model)))
    config = as_trained(config, first.run)
    found = collect(config, first.reader.recipe)
    captchas = [
        Captcha(relative_name(sample.path, found.source), sample.text, picture.content)
        for sample, picture in zip(found.samples, found.pictures, strict=True)
    ]
    places, asked = _asked(found, captchas, first)
    models = [first, *_others(config, first, runs, [captchas[place] for place in places])]
    for model in models:
        if model.sides is None:
            say(f"whether {model.name} was trained on some of them is not recorded")
        else:
            rest = judge_on([captchas[place] for place in places], asked, model.name, model.sides, _remedy(model))
            places = [places[index] for index in rest]
    if not places:
        raise DataError(f"nothing is left of {asked} to judge on: {_remedy(first)}")
    test = CaptchaDataset(
        [found.pictures[place].image for place in places],
        [found.samples[place] for place in places],
        eval_transform(first.reader.recipe.mean, first.reader.recipe.std),
    )
    for model in models:
        if unknown := sorted(set("".join(test.texts)) - set(model.reader.spelling.charset)):
            beyond = sum(not set(text).isdisjoint(unknown) for text in test.texts)
            say(f"{model.name} cannot read {beyond} of the {len(test)} texts: it does not know {''.join(unknown)}")
    sources = _sources(found, places)
    return Trial(models, test, [model.reader.read(sources) for model in models])


def acceptances(trial: Trial) -> list[Acceptance]:
    """What the thresholds that the first run chose on its validation side give here; none where it recorded none."""
    known = trial.models[0].run.data.metrics if trial.models[0].run else {}
    names = {precision: f"{acceptance_name(precision)}_threshold" for precision in PRECISIONS}
    confidences = [reading.confidence for reading in trial.readings[0]]
    right = [reading.text == text for reading, text in zip(trial.readings[0], trial.test.texts, strict=True)]
    return [accept(precision, known[name], confidences, right) for precision, name in names.items() if name in known]


def choose_runs(config: Config) -> list[Run]:
    """The finished runs that `config.runs` or `config.model` (runs:/ID/model) names, else all; the best by validation first.

    Runs that were trained on `config.data` come before others. None where `config.model` is a model folder. Raises
    DataError for names of no run, and where the record holds no finished run yet.
    """
    named = [word.strip() for word in (config.runs or "").split(",") if word.strip()]
    if config.model is not None:
        if named:
            raise DataError(f"model={config.model!r} and runs={config.runs!r} are both given: name one of them")
        if not config.model.startswith("runs:/"):
            return []
        named = [config.model.split("/")[1]]
    found = finished_runs(config)
    if not named and not found:
        raise DataError(
            f"there is no finished run in {record_name(config)} yet: train one first, as with python notebooks/train_ctc.py"
        )
    chosen = {_the_one(word, found, config).info.run_id for word in named}
    if named:
        return [run for run in found if run.info.run_id in chosen]
    return sorted(found, key=lambda run: run.data.params.get("data") != str(config.data))


def as_trained(config: Config, run: Run | None) -> Config:
    """The configuration with the run's data and the run's way to find texts, where it names none of its own."""
    if run is None:
        if config.data is None:
            raise DataError("name labelled captchas to judge the model on: CAPTCHA_DATA or Config(data=...)")
        return config
    params, default = run.data.params, Config()
    names = ("label_pattern", "case", "file_column", "label_column")
    as_then = {
        name: params[name] for name in names if name in params and getattr(config, name) == getattr(default, name)
    }
    return replace(config, data=config.data or as_source(params["data"]), **as_then)


def _the_one(word: str, runs: Sequence[Run], config: Config) -> Run:
    """The run of that name or id; the beginning of an id suffices."""
    matches = [run for run in runs if run.info.run_name == word or run.info.run_id.startswith(word)]
    if len(matches) == 1:
        return matches[0]
    listed = first_names([f"{run.info.run_id[:8]} {run.info.run_name}" for run in matches or runs] or ["none"], 10)
    raise DataError(
        f"{word!r} names {len(matches) or 'no'} finished runs of {record_name(config)}: give the id of one of"
        f" {listed.partition(': ')[2]}"
    )


def _model(config: Config, run: Run, among: Sequence[Run]) -> Model:
    """A run's model; its name with the beginning of its id where others have the same."""
    name, run_id = run.info.run_name, run.info.run_id
    if sum(other.info.run_name == name for other in among) > 1:
        name = f"{name} ({run_id[:8]})"
    return Model(name, Reader.load(download_model(f"runs:/{run_id}/model", config)), run, _split_list(config, run))


def _split_list(config: Config, run: Run) -> SplitList | None:
    """What the run recorded about its captchas; None where it did not."""
    uri, where = f"runs:/{run.info.run_id}", record_uri(config)
    if SPLIT_FILE not in [file.path for file in list_artifacts(f"{uri}/data", tracking_uri=where)]:
        return None
    return SplitList(Path(download_artifacts(f"{uri}/{SPLIT_FILE}", tracking_uri=where)))


def _asked(found: Collection, captchas: Sequence[Captcha], first: Model) -> tuple[list[int], str]:
    """(the places of the readable captchas that are asked for, what they are in words)."""
    own = first.sides.in_test(captchas) if first.sides else []
    if first.sides and own and 2 * len(own) >= len(first.sides.test):
        places, asked = own, f"the test side of run {first.name}"
        gone = len(first.sides.test) - len(own)
        say(f"{asked}: {len(own)} of {len(captchas)} captchas of {found.source}" + f"; {gone} are gone" * (gone > 0))
    else:
        places, asked = [*range(len(captchas))], str(found.source)
        say(f"all {len(captchas)} captchas of {asked}")
    if bad := [f"{captchas[place].file} ({p})" for place in places if (p := found.pictures[place].problem)]:
        say(f"left out, as they cannot be read: {first_names(bad)}")
    return [place for place in places if not found.pictures[place].problem], asked


def _remedy(model: Model) -> str:
    alone = f", or judge it alone on its own test side (CAPTCHA_RUNS={model.run.info.run_id[:8]})" if model.run else ""
    return f"name captchas that it has not seen (CAPTCHA_DATA){alone}"


def _others(config: Config, first: Model, runs: Sequence[Run], captchas: Sequence[Captcha]) -> list[Model]:
    """The runs judged beside the first one: those that were named, else those of its test side that saw no captcha."""
    if config.runs:
        return [_model(config, run, runs) for run in runs[1:]]
    others: list[Model] = []
    for run in runs[1:] if first.run and first.sides else ():
        if run.data.params.get("n_test") == first.run.data.params.get("n_test") and len(others) < MOST - 1:
            sides = _split_list(config, run)
            if sides and sides.has_test_side_of(first.sides) and not sides.seen(captchas).leaked:
                others.append(_model(config, run, runs))
    if passed := len(runs[1:]) - len(others):
        print(
            f"not judged: {passed} other finished run{'s' * (passed > 1)}; CAPTCHA_RUNS names those to judge, by id or name"
        )
    return others


def _sources(found: Collection, places: Sequence[int]) -> list[Path | bytes]:
    """The pictures as any reader takes them: files, or the content of those that are made in memory."""
    if isinstance(found.source, Path):
        return [found.samples[place].path for place in places]
    painted = [*Synthetic.parse(found.source).pictures()]
    return [painted[place] for place in places]
