"""Breakdowns by hand, and sums that must agree with the figures they break down."""

import random

import pytest

from helpers.evaluation import breakdown
from helpers.evaluation.breakdown import by_character, by_confusion, by_error, by_length, by_position
from helpers.text.metrics import character_error_rate, confusions, exact_match, wilson_interval

ALL = [by_length, by_position, by_character, by_error, by_confusion]


def drawn(seed: int) -> tuple[list[str], list[str]]:
    """Readings with every kind of error, of texts of three to six characters."""
    draw = random.Random(seed)
    truths = ["".join(draw.choices("ABC1", k=draw.randint(3, 6))) for _ in range(200)]
    edits = (lambda t: t, lambda t: t[1:], lambda t: t + "X", lambda t: t.replace("A", "B"), lambda t: "")
    return [draw.choices(edits, (5, 1, 1, 1, 0.2))[0](text) for text in truths], truths


def test_lengths_by_hand() -> None:
    two, three = by_length(["AB", "AX", "ABC"], ["AB", "AB", "ABC"])
    assert two == (2, 2, 1, 1 / 2, *wilson_interval(1, 2), 1 / 4)
    assert three == (3, 1, 1, 1, *wilson_interval(1, 1), 0)


def test_positions_by_hand() -> None:
    # XAB inserts and moves nothing; AC lacks the middle; the last is wrong at its end
    rows = by_position(["XAB", "AC", "ABD"], ["AB", "ABC", "ABC"])
    assert [(row.position, row.n, row.right) for row in rows] == [(1, 3, 3), (2, 3, 2), (3, 2, 1)]
    assert rows[1][3:] == (2 / 3, *wilson_interval(2, 3))


def test_characters_by_hand() -> None:
    # A is true three times, read twice; B comes once from an A; D comes from nothing; C is never read
    rows = {row.character: row for row in by_character(["AABD", ""], ["AAA", "C"])}
    assert [*rows] == ["A", "B", "C", "D"]
    assert rows["A"][1:] == (3, 2, 2, 2 / 3, *wilson_interval(2, 3), 1, *wilson_interval(2, 2))
    assert rows["C"][1:] == (1, 0, 0, 0, *wilson_interval(0, 1), None, None, None)
    assert rows["D"][1:] == (0, 1, 0, None, None, None, 0, *wilson_interval(0, 1))


def test_errors_by_hand() -> None:
    substitution, deletion, insertion = by_error(["AX", "A", "ABCD"], ["AB", "AB", "AB"])
    assert substitution == ("substitution", 1, 1 / 4, *wilson_interval(1, 4), 1 / 6)
    assert (deletion.n, insertion.n, insertion.share, insertion.cer) == (1, 2, 1 / 2, 2 / 6)


def test_without_an_error_there_is_nothing_to_take_a_share_of() -> None:
    assert [row[1:] for row in by_error(["A"], ["A"])] == [(0, None, None, None, 0)] * 3
    assert by_confusion(["A"], ["A"]) == []


def test_confusions_by_hand() -> None:
    rows = by_confusion(["O0", "OO", "0Ol"], ["00", "00", "0O"])
    assert rows[0] == ("0", "O", 3, 3 / 5, *wilson_interval(3, 5))
    assert rows[1:] == [("", "l", 1, None, None, None)]


@pytest.mark.parametrize("seed", range(3))
def test_sums_agree_with_what_is_broken_down(seed: int) -> None:
    readings, truths = drawn(seed)
    characters = sum(map(len, truths))
    lengths = by_length(readings, truths)
    assert sum(row.right for row in lengths) / sum(row.n for row in lengths) == exact_match(readings, truths)
    cer = sum(row.cer * row.n * row.length for row in lengths) / characters
    errors = by_error(readings, truths)
    assert cer == pytest.approx(character_error_rate(readings, truths)) == pytest.approx(sum(e.cer for e in errors))
    rows, positions = by_character(readings, truths), by_position(readings, truths)
    assert sum(row.n_true for row in rows) == sum(row.n for row in positions) == characters
    assert sum(row.n_read for row in rows) == sum(map(len, readings))
    assert sum(row.n_right for row in rows) == sum(row.right for row in positions)
    substituted, deleted, inserted = (row.n for row in errors)
    assert characters - sum(row.n_right for row in rows) == substituted + deleted
    assert sum(map(len, readings)) - sum(row.n_right for row in rows) == substituted + inserted
    assert sum(row.n for row in by_confusion(readings, truths)) == confusions(readings, truths).total()


def test_every_breakdown_is_a_table_and_tested() -> None:
    assert {name for name in vars(breakdown) if name.startswith("by_")} == {function.__name__ for function in ALL}
    assert [function for function, _ in breakdown.TABLES.values()] == ALL
