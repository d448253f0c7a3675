"""Prefix beam search against brute force over all alignments, and against PyTorch's CTC loss."""

import itertools
import re

import numpy as np
import pytest
import torch

from helpers.models.codec import CTCCodec
from helpers.text.beam import log_likelihoods, prefix_beam_search
from helpers.text.constraint import Constraint, Pattern, Words, constrained, of_length

CHARSET = "AB0"


def frames(generator: np.random.Generator, T: int, K: int) -> np.ndarray:
    """Log-probabilities (T, K), some frames sure and some not."""
    logits = torch.from_numpy(generator.normal(scale=generator.uniform(0.1, 4), size=(T, K)))
    return logits.log_softmax(-1).numpy()


def by_brute_force(scores: np.ndarray, charset: str) -> dict[str, float]:
    """{text: probability} from every path of classes, collapsed."""
    found: dict[str, float] = {}
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        text = "".join(charset[k - 1] for t, k in enumerate(path) if k and (t == 0 or path[t - 1] != k))
        found[text] = found.get(text, 0) + np.exp(sum(scores[t, k] for t, k in enumerate(path)))
    return found


def constraints(generator: np.random.Generator, charset: str, T: int) -> list[tuple[Constraint | None, re.Pattern]]:
    """One of each kind, with a regular expression that says the same."""
    low = int(generator.integers(0, T + 1))
    high = int(generator.integers(low, T + 1))
    some = "".join(c for c in charset if generator.random() < 0.6) or charset[0]
    words = {"".join(generator.choice(list(charset), generator.integers(0, 4))) for _ in range(4)}
    patterns = [f"[{some}]{{{low},{high}}}", f"{charset[0]}?.*", f"[^{charset[0]}]*.", f".[{some}]+", f"[{some}]*"]
    patterns = [p for p in patterns if not (len(charset) == 1 and "^" in p)]
    return [
        (None, re.compile(".*")),
        (of_length(low, high, charset), re.compile(f".{{{low},{high}}}")),
        (of_length(low, low, charset), re.compile(f".{{{low}}}")),
        (Words(words), re.compile("|".join(sorted(words)))),
        *((Pattern(pattern, charset), re.compile(pattern)) for pattern in patterns),
    ]


@pytest.mark.parametrize("seed", range(6))
def test_it_is_brute_force_under_every_kind_of_constraint(seed: int) -> None:
    generator, cases = np.random.default_rng(seed), 0
    while cases < 200:
        T, K = int(generator.integers(1, 6 + (seed == 0))), int(generator.integers(2, 5))
        charset, scores = CHARSET[: K - 1], frames(generator, T, K)
        truth = by_brute_force(scores, charset)
        assert sum(truth.values()) == pytest.approx(1)
        for constraint, same in constraints(generator, charset, T):
            valid = {text: p for text, p in truth.items() if same.fullmatch(text)}
            found = prefix_beam_search(scores, charset, constraint, best=10**6, beam=10**6)
            assert {text for text, _ in found} == set(valid)
            for text, score in found:
                assert np.exp(score) == pytest.approx(valid[text], rel=1e-9)
            assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
            assert prefix_beam_search(scores, charset, constraint, best=2, beam=10**6) == found[:2]
            cases += 1


def test_a_probability_is_that_of_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 12, 6, generator=generator, dtype=torch.float64)
    texts = ["".join("ABCDE"[i] for i in torch.randint(5, (n % 7,), generator=generator)) for n in range(50)]
    ids = [["ABCDE".index(c) + 1 for c in text] for text in texts]
    scores = logits.log_softmax(-1)
    losses = torch.nn.functional.ctc_loss(
        scores.transpose(0, 1),
        torch.tensor([i for row in ids for i in row]),
        torch.full((50,), 12),
        torch.tensor([len(text) for text in texts]),
        reduction="none",
    )
    assert log_likelihoods(scores.numpy(), ids) == pytest.approx(-losses.numpy(), abs=1e-9)


def test_doubled_letters_and_a_length_that_the_best_path_lacks() -> None:
    scores = np.log(np.array([[0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1]]))
    assert prefix_beam_search(scores, "AB")[0][0] == "A"
    text, score = prefix_beam_search(scores, "AB", of_length(2, 2, "AB"))[0]
    assert text == "AA" and np.exp(score) == pytest.approx(0.8 * 0.3 * 0.8)
    assert prefix_beam_search(scores, "AB", of_length(4, 4, "AB")) == []  # three frames cannot


def test_a_narrow_beam_still_finds_a_text_of_every_length() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = frames(generator, 8, 4)
        for length in range(5):
            ((text, _),) = prefix_beam_search(scores, CHARSET, of_length(length, length, CHARSET), beam=1)
            assert len(text) == length


def test_what_the_network_is_sure_of_is_what_greedy_reads() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 8 * torch.randn(20, 12, 4, generator=generator)
    for row, reading in zip(logits, CTCCodec(CHARSET).read(logits), strict=True):
        ((text, score),) = prefix_beam_search(row.double().log_softmax(-1).numpy(), CHARSET)
        assert np.exp(score) >= reading.confidence - 1e-6
        if reading.confidence > 0.5:  # no other text can be as likely
            assert text == reading.text and np.exp(score) == pytest.approx(reading.confidence, rel=1e-4)


def accepts(constraint: Constraint, text: str) -> bool:
    state = constraint.start
    for character in text:
        if (state := constraint.step(state, character)) is None:
            return False
    return constraint.missing(state) == 0


@pytest.mark.parametrize(
    ("pattern", "valid", "invalid"),
    [
        ("[A-Z][0-9]{3}", ["A000"], ["A00", "0000", "A0000", "AA00", ""]),
        ("[^0]{1,2}", ["A", "AB"], ["0", "ABA", ""]),
        (r"A\.?B", ["AB"], ["A0B"]),
        ("A+0*", ["A", "AA", "A0"], ["0", ""]),
        ("", [""], ["A"]),
        (r"[A\-0]", ["A", "-", "0"], ["B", "."]),
        (r"[\\\-B]", ["\\", "-", "B"], ["A"]),
        (r"[A-B-]", ["A", "B", "-"], ["0"]),
    ],
)
def test_patterns(pattern: str, valid: list[str], invalid: list[str]) -> None:
    constraint = Pattern(pattern, "AB0.-\\")
    assert all(accepts(constraint, text) for text in valid)
    assert not any(accepts(constraint, text) for text in invalid)


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"length": 2}, ".{2}"),
        ({"length": "1-3"}, ".{1,3}"),
        ({"chars": "0Bx"}, "[0B]*"),
        ({"length": "2", "chars": "-A"}, "[-A]{2}"),
        ({"pattern": "[AB]0?"}, "[AB]0?"),
        ({"words": iter(["A0", "B"])}, "A0|B"),
    ],
)
def test_what_users_know_is_what_a_regular_expression_says(given: dict, same: str) -> None:
    charset = "AB0-"
    constraint = constrained(charset, **given)
    for length in range(5):
        for text in map("".join, itertools.product(charset, repeat=length)):
            assert accepts(constraint, text) == bool(re.fullmatch(same, text)), text
    assert constrained(charset) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"length": "6-4"}, "length='6-4' cannot be used: give a number of characters, or a range such as 4-6"),
        ({"length": "four"}, "length='four' cannot be used"),
        ({"length": 4, "pattern": "A"}, "pattern and length cannot be combined"),
        ({"chars": "A", "words": ["A"]}, "words and chars cannot be combined"),
        ({"chars": "xyz"}, "none of the characters 'xyz' is in the charset 'AB0'"),
        ({"words": ["A", "Ax"]}, "'Ax' is no valid text: 'AB0' are the characters that can be read"),
        ({"words": []}, "list of valid texts is empty"),
    ],
)
def test_constraints_that_cannot_be_used(given: dict, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        constrained(CHARSET, **given)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("A|B", "cannot be used from '|B' on: A pattern over a charset: characters"),
        ("(AB)", r"cannot be used from '\(AB\)' on"),
        ("A{3,2}", r"asks for at least 3 and at most 2"),
        ("[x-z]", "allows no character of the charset 'AB0'"),
        ("z", "allows no character"),
    ],
)
def test_patterns_that_cannot_be_used(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("|", r"\|")):
        Pattern(pattern, CHARSET)


def test_an_empty_list_is_an_error() -> None:
    with pytest.raises(ValueError, match="list of valid texts is empty"):
        Words([])
