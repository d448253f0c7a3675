"""Spellings in numpy alone: against brute force, and with a temperature and constraints."""

import itertools

import numpy as np
import pytest

from helpers.text.constraint import Words, of_length
from helpers.text.spelling import CTCSpelling, PositionSpelling, Reading, log_softmax
from tests.text.test_beam import CHARSET, by_brute_force, constraints


def logits_of(generator: np.random.Generator, B: int, T: int, K: int) -> np.ndarray:
    return generator.normal(scale=generator.uniform(0.5, 4), size=(B, T, K)).astype(np.float32)


def products(scores: np.ndarray, charset: str) -> dict[str, float]:
    """{text: probability} of every text whose character t has class t of (T, K)."""
    texts = itertools.product(range(len(charset)), repeat=len(scores))
    return {"".join(charset[k] for k in ids): np.exp(scores[range(len(scores)), list(ids)].sum()) for ids in texts}


@pytest.mark.parametrize("spelling", [PositionSpelling, CTCSpelling])
def test_reading_is_brute_force_at_every_temperature_and_under_every_constraint(spelling) -> None:
    generator, cases = np.random.default_rng(0), 0
    ctc = spelling is CTCSpelling
    while cases < 300:
        T, characters = int(generator.integers(1, 5)), int(generator.integers(1, 4))
        charset, temperature = CHARSET[:characters], float(generator.choice([0.5, 1, 3]))
        logits = logits_of(generator, 2, T, characters + ctc)
        truths = [
            (by_brute_force if ctc else products)(frames, charset) for frames in log_softmax(logits / temperature)
        ]
        for constraint, same in constraints(generator, charset, T):
            readings = spelling(charset).read(logits, temperature, constraint, best=3)
            for reading, truth in zip(readings, truths, strict=True):
                valid = sorted((-p, text) for text, p in truth.items() if same.fullmatch(text))[:3]
                assert [p for _, p in reading.alternatives] == pytest.approx([-p for p, _ in valid], rel=1e-9)
                assert all(truth[text] == pytest.approx(p, rel=1e-9) for text, p in reading.alternatives)
                assert all(same.fullmatch(text) for text, _ in reading.alternatives)
                assert (reading.error is None) == bool(valid)
                assert (reading.text, reading.confidence) == (reading.alternatives or (("", 0),))[0]
            cases += 1


@pytest.mark.parametrize("spelling", [PositionSpelling("AB0", 4), CTCSpelling("AB0", 2), CTCSpelling("AB0")])
def test_a_temperature_changes_the_confidence_and_not_the_text(spelling) -> None:
    logits = logits_of(np.random.default_rng(1), 20, 4, 3 + isinstance(spelling, CTCSpelling))
    plain = spelling.read(logits)
    assert len({reading.text for reading in plain}) > 5
    for temperature in (0.3, 2.5):
        readings = spelling.read(logits, temperature)
        assert [r.text for r in readings] == [r.text for r in plain] == spelling.texts(logits)
        for reading, frames in zip(readings, log_softmax(logits / temperature), strict=True):
            truth = (by_brute_force if isinstance(spelling, CTCSpelling) else products)(frames, "AB0")
            assert reading.confidence == pytest.approx(truth[reading.text], rel=1e-9)
            assert (
                np.exp(spelling.log_probabilities(logits[:1], ["A0"], temperature) if spelling.length != 4 else 0) <= 1
            )


def test_where_no_text_is_allowed_there_is_an_error() -> None:
    logits = logits_of(np.random.default_rng(2), 2, 3, 4)
    for constraint in (of_length(4, 6, "AB0"), Words(["AA0", "BBA0"])):  # doubled letters take a blank between them
        for reading in CTCSpelling("AB0").read(logits, constraint=constraint, best=2):
            assert reading == Reading("", 0.0, error="3 frames spell no text that is allowed")
            assert not reading.accepted(0)
    assert PositionSpelling("AB0", 3).read(logits[..., 1:], constraint=of_length(2, 2, "AB0"))[0].error


def test_a_known_length_holds_where_alternatives_are_asked_for() -> None:
    logits = logits_of(np.random.default_rng(3), 30, 6, 4)
    for reading, text in zip(CTCSpelling("AB0", 3).read(logits, best=5), CTCSpelling("AB0").texts(logits), strict=True):
        assert {len(alternative) for alternative, _ in reading.alternatives} == {3} and len(reading.alternatives) == 5
        assert len(text) != 3 or reading.confidence > 0
    assert {len(r.text) for r in CTCSpelling("AB0", 3).read(logits, constraint=of_length(1, 2, "AB0"))} <= {1, 2}


def test_columns_name_the_frames_of_each_character() -> None:
    path = np.array([[0, 1, 1, 0, 1, 2], [3, 3, 0, 2, 2, 2]])
    logits = 9 * np.eye(4)[path]  # (B, T, K)
    spelling = CTCSpelling("AB0")
    assert spelling.columns(logits).tolist() == [["", "A", "A", "", "A", "B"], ["0", "0", "", "B", "B", "B"]]
    assert spelling.texts(logits) == ["AAB", "0B"]
    columns = CTCSpelling("AB0", 3).columns(logits)  # the second then spells three characters
    assert columns[0].tolist() == ["", "A", "A", "", "A", "B"]
    assert len([1 for before, after in itertools.pairwise(["", *columns[1]]) if after and after != before]) == 3
