"""Which runs are judged, on which captchas, and whose readings are better: records made by hand, with known leaks."""

import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.config import Config
from helpers.data.dataset import CaptchaDataset
from helpers.data.module import SPLIT_FILE
from helpers.data.splits import split
from helpers.evaluation import comparison
from helpers.evaluation.seen import Captcha, SplitList
from helpers.evaluation.trial import MOST, Model, Trial, acceptances, choose_runs, judge
from helpers.models.recipes import RECIPES
from helpers.models.weights import save_model
from helpers.output import SPLIT_LIST
from helpers.pictures.decoding import digest
from helpers.pictures.opening import DataError
from helpers.plots import readings as plots
from helpers.record.runs import finished_runs
from helpers.record.tracking import track
from helpers.sources.names import Sample
from helpers.synthetic.captchas import Synthetic
from helpers.text import metrics
from helpers.text.spelling import Reading
from tests.captchas import encoded, noise, pack, table, write
from tests.records import blank_record

CHARSET = "abcdefgh"
LETTERS = random.Random(0)
TEXTS = sorted({"".join(LETTERS.choice(CHARSET) for _ in range(6)) for _ in range(60)})


def captchas(folder: Path, texts: list[str], seed: int = 0) -> Path:
    """A folder of pictures, no two alike, named by their texts."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, text in enumerate(texts):
        (folder / f"{text}.png").write_bytes(encoded(noise((48, 16), 1000 * seed + place)))
    return folder


def rows_of(source: Path, seed: int = 0, old: bool = False) -> list[tuple[str, ...]]:
    """A split list as a training records it; `old`: without digests, as it once was."""
    paths = sorted(source.glob("*.png"))
    sides = split([path.stem for path in paths], seed)
    rows = [(p.name, p.stem, side, digest(p.read_bytes())) for p, side in zip(paths, sides, strict=True)]
    return [row[:3] for row in rows] if old else rows


def side_of(source: Path, *sides: str, seed: int = 0) -> list[Path]:
    return [source / row[0] for row in rows_of(source, seed) if row[2] in sides]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained model folders by recipe."""
    folders = {}
    for name in ("conv_ctc", "cnn_gru_ctc"):
        recipe = replace(RECIPES[name], fit_width=False, aspect="squeeze", crop=(0.0, 1.0))
        codec = recipe.codec(CHARSET, None)
        folders[name] = save_model(tmp_path_factory.mktemp(name), recipe.network(codec), codec, recipe)
    return folders


Runs = Callable[..., str]


@pytest.fixture
def record(tmp_path: Path, tmp_path_factory, monkeypatch, models) -> Runs:
    """Adds a finished run to a record of its own; returns the id."""
    monkeypatch.setenv("CAPTCHA_WORK", str(tmp_path / "work"))
    blank_record(tmp_path / "work", tmp_path_factory)

    def add(
        name: str, source: Path | str, val_exact: float, rows: list[tuple[str, ...]] | None = None, **how: object
    ) -> str:
        rows = rows_of(source, **how) if rows is None else rows
        with track(Config(), name) as run:
            run.params({"data": source, "n_test": sum(row[2] == "test" for row in rows)})
            run.metrics({"best_val_exact": val_exact})
            run.folder(models["cnn_gru_ctc" if "gru" in name else "conv_ctc"], "model")
            if rows:
                run.table(SPLIT_LIST[: len(rows[0])], rows, SPLIT_FILE)
        return run.id

    return add


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return captchas(tmp_path / "own", TEXTS)


def names(trial: Trial) -> list[str]:
    return [model.name for model in trial.models]


def files(trial: Trial) -> list[Path]:
    return [sample.path for sample in trial.test.samples]


def test_the_best_run_is_judged_on_its_own_test_side(record: Runs, source: Path, capsys) -> None:
    record("worse", source, 0.5)
    best = record("best", source, 0.75)
    trial = judge(Config())
    assert names(trial) == ["best", "worse"] and trial.models[0].run.info.run_id == best
    assert files(trial) == sorted(side_of(source, "test")) and len(trial.test) >= 3
    assert (
        f"the test side of run best: {len(trial.test)} of {len(TEXTS)} captchas of {source}" in capsys.readouterr().out
    )


def test_the_own_data_elsewhere_is_known_again(record: Runs, source: Path, tmp_path: Path) -> None:
    """As after a journey home: renamed and unpacked elsewhere, or still in a zip."""
    record("best", source, 0.75)
    own = {path.stem for path in side_of(source, "test")}
    moved = shutil.copytree(source, tmp_path / "moved")
    for place in (moved, pack(source, tmp_path / "packed.zip")):
        assert {*judge(Config(data=place)).test.texts} == own
    for path in moved.iterdir():
        path.rename(moved / f"renamed-{path.name}")
    assert {*judge(Config(data=moved, label_pattern="renamed-(.+)")).test.texts} == own


def test_what_is_gone_and_what_cannot_be_read_is_counted_and_named(record: Runs, source: Path, capsys) -> None:
    record("best", source, 0.75)
    gone, bad, *rest = side_of(source, "test")
    gone.unlink()
    record("newer", source, 0.9, rows=rows_of(captchas(source, TEXTS)))
    gone.unlink()
    (source / "bad.png").write_bytes(b"no picture")
    rows = [*rows_of(source), (gone.name, gone.stem, "test", "0" * 32)]
    record("newest", source, 1.0, rows=[(*row[:2], "test" if row[0] == "bad.png" else row[2], row[3]) for row in rows])
    assert files(judge(Config(runs="newest"))) == sorted([bad, *rest])
    said = capsys.readouterr().out
    assert "; 1 are gone" in said and "left out, as they cannot be read: 1 file: bad.png (" in said


def test_renamed_copies_of_training_images_are_refused(record: Runs, source: Path, tmp_path: Path) -> None:
    """Under other names and with other texts: only the bytes tell."""
    record("best", source, 0.75)
    copied = tmp_path / "copied"
    copied.mkdir()
    trained_on = side_of(source, "train", "val")[:20]
    for place, path in enumerate(trained_on):
        shutil.copy(path, copied / f"{CHARSET[place % 8] * 3}{CHARSET[place // 8] * 3}.png")
    with pytest.raises(DataError) as refused:
        judge(Config(data=copied))
    said = (
        f"not a test: 20 of 20 captchas of {copied} were trained on by run best (images: 20, texts: 0): name captchas"
    )
    assert str(refused.value).startswith(said) and "CAPTCHA_DATA" in str(refused.value)


@pytest.mark.parametrize("change", [str, str.upper])
def test_the_texts_of_the_training_are_refused_in_other_images(record: Runs, source, tmp_path, change) -> None:
    """As where pictures were saved anew; whatever the case of their names."""
    record("best", source, 0.75)
    trained_on = [path.stem for path in side_of(source, "train")[:20]]
    new = captchas(tmp_path / "new", [*map(change, trained_on), "aaaaaa", "bbbbbb"], seed=1)
    with pytest.raises(DataError, match=r"not a test: 20 of 22 captchas .* by run best \(images: 0, texts: 20\)"):
        judge(Config(data=new))


def test_a_few_that_were_trained_on_are_left_out_and_named(record: Runs, source, tmp_path, capsys) -> None:
    record("best", source, 0.75)
    new = captchas(tmp_path / "new", [letter * 6 for letter in CHARSET], seed=1)
    by_text = side_of(source, "val")[0].stem
    captchas(new, [by_text], seed=2)
    shutil.copy(side_of(source, "train")[0], new / "hhhggg.png")
    trial = judge(Config(data=new))
    assert sorted(trial.test.texts) == [letter * 6 for letter in CHARSET]
    named = ", ".join(sorted(["hhhggg.png", f"{by_text}.png"]))
    assert (
        f"left out, as run best was trained on them (images: 1, texts: 1): 2 files: {named}\n"
        in capsys.readouterr().out
    )


def test_half_is_still_a_test_and_more_is_not(record: Runs, source: Path, tmp_path: Path) -> None:
    record("best", source, 0.75)
    new = captchas(tmp_path / "new", [letter * 6 for letter in CHARSET], seed=1)
    first, *more = side_of(source, "train")[:9]
    for path in more:
        shutil.copy(path, new)
    assert len(judge(Config(data=new)).test) == 8
    shutil.copy(first, new)
    with pytest.raises(DataError, match="not a test: 9 of 17 captchas"):
        judge(Config(data=new))


def listed(path: Path, rows: list[tuple[str, ...]], columns: tuple[str, ...] = SPLIT_LIST) -> SplitList:
    return SplitList(table(path, rows, columns))


def test_texts_that_must_meet_by_chance_say_nothing(tmp_path: Path, record: Runs, source: Path, capsys) -> None:
    """Of two letters out of eight there are 64; a training on 32 of them has seen half of any new texts."""
    texts = [a + b for a in CHARSET for b in CHARSET]
    random.Random(0).shuffle(texts)
    sides = listed(tmp_path / "list.csv", [(f"{t}.png", t, "train", f"old {t}") for t in texts[:32]])
    draw = random.Random(1)
    drawn = [[Captcha("", draw.choice(texts), "new") for _ in range(40)] for _ in range(500)]
    seen = [sides.seen(new) for new in drawn]
    assert {found.chance for found in seen} == {20.0}
    assert np.mean([len(found.texts) for found in seen]) == pytest.approx(20, abs=0.5)
    assert sum(found.leaked == [] for found in seen) == 500
    again = sides.seen([Captcha("", draw.choice(texts[:32]), "new") for _ in range(40)])  # the trained texts alone
    assert len(again.leaked) == len(again.texts) == 40
    record("best", source, 0.75, rows=[(f"{t}.png", t, "train", f"old {t}") for t in texts[:32]])
    assert len(judge(Config(data=captchas(tmp_path / "all", texts, seed=1))).test) == 64
    assert "32 texts of" in (said := capsys.readouterr().out) and "in other images, 32.0 by chance" in said


def test_runs_from_before_there_were_digests_are_judged_by_names_and_texts(
    record: Runs, source, tmp_path, capsys
) -> None:
    record("old", source, 0.75, old=True)
    assert files(judge(Config())) == sorted(side_of(source, "test"))
    assert (
        "run old was recorded before images had digests: what it was trained on is told by" in capsys.readouterr().out
    )
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in side_of(source, "train")[:10]:
        shutil.copy(path, copied)
    said = r"10 of 10 captchas .* \(names, as it was recorded before images had digests: 10, texts: 10\)"
    with pytest.raises(DataError, match=said):
        judge(Config(data=copied))


def test_a_run_of_another_split_is_passed_over_or_refused_where_it_is_named(record: Runs, source, capsys) -> None:
    record("best", source, 0.75)
    record("other split", source, 0.5, seed=1)
    assert names(judge(Config())) == ["best"]
    assert "not judged: 1 other finished run; CAPTCHA_RUNS names those" in capsys.readouterr().out
    own, theirs = (
        {path.name for path in side_of(source, *sides, seed=seed)}
        for seed, *sides in ((0, "test"), (1, "train", "val"))
    )
    said = rf"not a test: {len(own & theirs)} of {len(own)} captchas of the test side of run best .* by run other split"
    with pytest.raises(DataError, match=said):
        judge(Config(runs="best,other split"))


def test_named_runs_are_judged_on_what_none_was_trained_on(record: Runs, source, tmp_path) -> None:
    record("best", source, 0.75)
    record("other split", source, 0.5, seed=1)
    new = captchas(tmp_path / "new", [letter * 6 for letter in CHARSET], seed=1)
    for seed in (0, 1):
        shutil.copy(
            next(p for p in side_of(source, "train", seed=seed) if p not in side_of(source, "train", seed=1 - seed)),
            new,
        )
    trial = judge(Config(runs="other split, best", data=new))
    assert names(trial) == ["best", "other split"] and sorted(trial.test.texts) == [letter * 6 for letter in CHARSET]


def test_texts_beyond_a_charset_are_counted(record: Runs, source: Path, tmp_path: Path, capsys) -> None:
    record("best", source, 0.75)
    judge(Config(data=captchas(tmp_path / "new", ["aaaaaa", "zbbbbb", "ccyzcc"], seed=1)))
    assert "best cannot read 2 of the 3 texts: it does not know yz\n" in capsys.readouterr().out


def test_runs_are_named_by_name_or_id(record: Runs, source: Path, tmp_path: Path) -> None:
    ids = [record("twin", source, 0.5), record("twin", source, 0.75), record("third", source, 0.6)]

    def chosen(**settings: object) -> list[str]:
        return [run.info.run_id for run in choose_runs(Config(**settings))]

    assert chosen() == [ids[1], ids[2], ids[0]]
    assert chosen(runs="third") == [ids[2]] and chosen(runs=f"{ids[0]}, {ids[1][:8]}") == [ids[1], ids[0]]
    assert chosen(model=f"runs:/{ids[0]}/model") == [ids[0]] and chosen(model="work/model") == []
    with pytest.raises(DataError, match="'twin' names 2 finished runs") as ambiguous:
        chosen(runs="twin")
    assert ids[0][:8] in str(ambiguous.value) and ids[2][:8] not in str(ambiguous.value)
    with pytest.raises(DataError, match="'fourth' names no finished runs .*third"):
        chosen(runs="third,fourth")
    with pytest.raises(DataError, match="are both given"):
        chosen(runs="third", model="work/model")
    twins = judge(Config(runs=",".join(ids)))
    assert names(twins) == [f"twin ({ids[1][:8]})", "third", f"twin ({ids[0][:8]})"]


def test_no_more_than_a_few_runs_are_judged_where_none_is_named(record: Runs, source: Path, capsys) -> None:
    for number in range(MOST + 2):
        record(f"run {number}", source, number / 10)
    assert names(judge(Config())) == [f"run {number}" for number in range(MOST + 1, 1, -1)]
    assert "not judged: 2 other finished runs" in capsys.readouterr().out


def test_runs_that_know_the_captchas_come_first(record: Runs, source: Path, tmp_path: Path) -> None:
    record("theirs", source, 0.5)
    record("best", captchas(tmp_path / "other", [text[::-1] for text in TEXTS], seed=3), 1.0)
    assert names(judge(Config(data=source))) == ["theirs"] and names(judge(Config())) == ["best"]


def test_a_run_without_a_split_list_is_said_to_be_unknown(record: Runs, source: Path, capsys) -> None:
    record("nameless", source, 0.75, rows=[])
    assert len(judge(Config()).test) == len(TEXTS)
    assert "whether nameless was trained on some of them is not recorded" in capsys.readouterr().out


def test_a_model_folder_needs_data_and_takes_all_of_it(source: Path, models, capsys) -> None:
    config = Config(model=str(models["conv_ctc"]))
    with pytest.raises(DataError, match="name labelled captchas"):
        judge(config)
    trial = judge(replace(config, data=source))
    assert sorted(trial.test.texts) == TEXTS and names(trial) == [config.model]
    assert f"whether {config.model} was trained on some of them is not recorded" in capsys.readouterr().out


def test_texts_are_found_as_the_training_found_them(record: Runs, source: Path, tmp_path: Path, capsys) -> None:
    run_id = record("best", source, 0.75)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("helpers.evaluation.trial.finished_runs", lambda _: [run])
        run = next(iter(finished_runs(Config())), None)
        run.data.params.update(label_pattern=r"(.+)-\d", case="lower")
        new = tmp_path / "new"
        write(new / "NEW22-0.png")
        (new / "BAD22-0.png").write_bytes(b"no picture")
        assert judge(Config(data=new)).test.texts == ["new22"] and run.info.run_id == run_id
        assert "left out, as they cannot be read: 1 file: BAD22-0.png (" in capsys.readouterr().out
        assert judge(Config(data=new, label_pattern=r"(.).+")).test.texts == ["n"]  # what is asked for now has the say


SPEC = "synthetic:count=40,charset=abcdefgh,length=6,size=64x32,style=clean"


@pytest.mark.parametrize("kind", ["folder", "zip", "memory"])
def test_every_model_reads_the_same_captchas_its_own_way(kind: str, record: Runs, source, tmp_path) -> None:
    """Networks of different pictures, gray and in colour: the readings are those of each reader alone, in the same order."""
    rows, where = rows_of(source), source
    if kind == "zip":
        where = pack(source, tmp_path / "x.zip")
    if kind == "memory":
        painted = enumerate(zip(Synthetic.parse(SPEC).texts(), Synthetic.parse(SPEC).pictures(), strict=True))
        rows = [(f"{text}.png", text, ("test", "train")[i % 2], digest(content)) for i, (text, content) in painted]
        where = SPEC
    for name, val_exact in (("conv", 0.9), ("gru", 0.8)):
        record(name, where, val_exact, rows=rows)
    both, alone = judge(Config()), judge(Config(runs="gru"))
    assert names(both) == ["conv", "gru"] and names(alone) == ["gru"]
    expected = [row[1] for row in rows if row[2] == "test"]
    assert sorted(both.test.texts) == sorted(expected) and alone.test.texts == both.test.texts
    assert both.test.images[0].shape != alone.test.images[0].shape
    assert both.readings[0] == both.models[0].reader.read_prepared(both.test.images)
    assert both.readings[1] == alone.models[0].reader.read_prepared(alone.test.images) != both.readings[0]


def trial_of(*readings: list[str], truths: list[str], cases: tuple[str, ...] = ()) -> Trial:
    """Models called A, B, ... that read what is given."""

    class Known:
        def __init__(self, case: str) -> None:
            self.case = case

    cases = cases or ("keep",) * len(readings)
    made = [Model(chr(ord("A") + place), Known(case)) for place, case in enumerate(cases)]
    images = [np.zeros((4, 8, 1), np.uint8)] * len(truths)
    test = CaptchaDataset(images, [Sample(Path(f"{text}.png"), text) for text in truths], None)
    return Trial(made, test, [[Reading(text, 0.5) for text in texts] for texts in readings])


def test_thresholds_are_those_that_the_run_chose() -> None:
    trial = trial_of(["AB", "CD", "xx"], truths=["AB", "CD", "EF"])
    assert acceptances(trial) == []  # a model folder
    run = SimpleNamespace(data=SimpleNamespace(metrics={"accept_99_9_threshold": 0.9, "accept_99_threshold": 0.5}))
    sure = [
        replace(reading, confidence=sure) for reading, sure in zip(trial.readings[0], (0.95, 0.4, 0.6), strict=True)
    ]
    known = replace(trial, models=[replace(trial.models[0], run=run)], readings=[sure])
    assert [(each.precision, each.threshold, each.accepted, each.right) for each in acceptances(known)] == [
        (0.99, 0.5, 2, 1),
        (0.999, 0.9, 1, 1),
    ]


def test_models_are_compared_captcha_by_captcha() -> None:
    truths = [f"{number:04d}" for number in range(100)]
    good = [text if number >= 2 else "x" for number, text in enumerate(truths)]  # wrong: 0, 1
    poor = [text if number >= 12 or number == 1 else "x" for number, text in enumerate(truths)]  # wrong: 0, 2 to 11
    found = comparison.compare(trial_of(good, poor, good, truths=truths))
    assert [score.exact for score in found.scores] == [0.98, 0.89, 0.98]
    assert [(test.both, test.only_a, test.only_b, test.neither) for test in found.tests] == [
        (88, 10, 1, 1),
        (98, 0, 0, 2),
    ]
    p = 2 * (1 + 11) / 2**11  # of 11 coins none or one on the other side, both ways
    assert [test.p for test in found.tests] == [p, 1.0] and found.p_values == [2 * p, 1.0]
    said = str(found)
    assert f"they differ on 11 captchas: 10 only A, 1 only B; p = {2 * p:.2g}: hardly chance" in said
    assert "A reads 98 of 100 (98.0 %; 93.0 to 99.4), B 89 of 100" in said and "2 comparisons (Holm)" in said
    assert re.search(r"B +89 of 100 +89\.0 % +81\.4 to 93\.7", said) and "taken as the same" not in said


def test_one_model_alone_is_said_to_have_nothing_beside_it() -> None:
    found = comparison.compare(trial_of(["AB"], truths=["AB"]))
    assert found.tests == [] and "only one model is judged" in str(found) and "p =" not in str(found)
    assert plots.shares(found.shares, "right", "model").axes


def test_models_of_different_cases_are_compared_without_case() -> None:
    read = trial_of(["Ab", "cD"], ["ab", "cx"], truths=["Ab", "CD"], cases=("keep", "lower"))
    found = comparison.compare(read)
    assert found.folded and [score.exact for score in found.scores] == [1.0, 0.5]
    assert "upper and lower case are taken as the same" in str(found)
    same = comparison.compare(trial_of(["Ab", "cD"], ["ab", "cx"], truths=["Ab", "CD"]))
    assert not same.folded and [score.exact for score in same.scores] == [0.5, 0.0]


def test_the_figure_shows_each_share_where_it_is_with_its_interval() -> None:
    rows = {"A $x_1$": (102, 104), "B": (0, 7), "C": (7, 7)}
    axes = plots.shares(rows, "title", "model").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [*rows] and axes.get_xlabel() and axes.get_title()
    assert axes.yaxis_inverted()
    for place, (bars, (right, n)) in enumerate(zip(axes.containers, rows.values(), strict=True)):
        assert bars[0].get_xydata().tolist() == [[right / n, place]]
        ends = bars[2][0].get_segments()[0][:, 0]
        assert ends == pytest.approx(metrics.wilson_interval(right, n))
