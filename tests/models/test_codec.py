"""Codecs against hand-collapsed paths and brute-force sums over all alignments."""

import itertools
import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from helpers.models.codec import Codec, CTCCodec, FixedLengthCodec
from helpers.text.spelling import best_path

T, K = 5, 3
PATHS = list(itertools.product(range(K), repeat=T))  # all 243 ways through 5 frames of 3 classes


def random_logits(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sure(paths: list[tuple[int, ...]], classes: int, height: float = 20.0) -> Tensor:
    """Logits (B, T, K) that put each frame on the class of its path."""
    return height * torch.nn.functional.one_hot(torch.tensor(paths), classes).float()


def collapse(path: tuple[int, ...], charset: str) -> str:
    """The definition: one of each group of equal neighbours, then the blanks go."""
    return "".join(charset[i - 1] for i, _ in itertools.groupby(path) if i)


def probabilities(logits: Tensor, charset: str) -> dict[str, float]:
    """P(text) of every text that T frames can spell, as a sum over its alignments; logits (T, K)."""
    frames = logits.double().softmax(-1).tolist()
    table: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(len(frames[0])), repeat=len(frames)):
        table[collapse(path, charset)] += math.prod(frame[i] for frame, i in zip(frames, path, strict=True))
    return table


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("-----", ""),
        ("AAAAA", "A"),
        ("A-A--", "AA"),
        ("AA-AA", "AA"),
        ("A-A-A", "AAA"),
        ("AAB-B", "ABB"),
        ("-ABA-", "ABA"),
        ("A--BB", "AB"),
        ("A---A", "AA"),
        ("--BBB", "B"),
        ("AB-BA", "ABBA"),
        ("ABABA", "ABABA"),
    ],
)
def test_greedy_reading_by_hand(path: str, text: str) -> None:
    logits = sure([tuple("-AB".index(c) for c in path)], K)
    assert CTCCodec("AB").read(logits)[0].text == text


def test_greedy_reading_collapses_every_path_by_the_definition() -> None:
    readings = CTCCodec("AB").read(sure(PATHS, K))
    assert [reading.text for reading in readings] == [collapse(path, "AB") for path in PATHS]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("length", range(T + 1))
def test_the_best_path_of_a_length_is_that_of_all_243(length: int, seed: int) -> None:
    logits = random_logits(T, K, seed=seed)
    frames = logits.double().log_softmax(-1).numpy()
    spelling = [path for path in PATHS if len(collapse(path, "AB")) == length]
    expected = max(spelling, key=lambda path: sum(frames[t, i] for t, i in enumerate(path)))
    assert tuple(best_path(frames, length)) == expected
    assert CTCCodec("AB", length).read(logits[None])[0].text == collapse(expected, "AB")


def test_a_known_length_changes_only_readings_of_other_lengths() -> None:
    logits = random_logits(200, T, K, seed=1)
    free, known = CTCCodec("AB").read(logits), CTCCodec("AB", 2).read(logits)
    assert {len(reading.text) for reading in known} == {2} and len({len(reading.text) for reading in free}) > 2
    for logit, one, two in zip(logits, free, known, strict=True):
        assert one == two or len(one.text) != 2
        assert two.confidence == pytest.approx(probabilities(logit, "AB")[two.text], rel=1e-4)
    assert CTCCodec("AB", T + 1).read(logits) == free  # which no path can spell


def test_silence_is_all_blanks_whatever_length_is_known() -> None:
    logits = sure([(0, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 0, 0, 0)], K)
    assert [CTCCodec("AB", length).silent(logits) for length in (None, 2)] == [2, 2]
    assert FixedLengthCodec("ABC", T).silent(logits) == 0


def test_confidence_is_the_brute_force_sum_over_alignments() -> None:
    logits = random_logits(40, T, K)
    logits[:10, :, 0] += 4  # some of which read nothing at all
    readings = CTCCodec("AB").read(logits)
    tables = [probabilities(one, "AB") for one in logits]
    assert {0, 1, 2, 3} <= {len(reading.text) for reading in readings}
    expected = [table[reading.text] for table, reading in zip(tables, readings, strict=True)]
    assert [reading.confidence for reading in readings] == pytest.approx(expected, rel=1e-4)


def test_confidence_is_a_probability_even_where_the_network_is_sure() -> None:
    readings = CTCCodec("AB").read(torch.cat([sure(PATHS, K, height) for height in (3.0, 6.0, 12.0, 20.0)]))
    assert all(0 <= reading.confidence <= 1 for reading in readings)
    assert readings[-1].confidence == pytest.approx(1, abs=1e-5)


def test_loss_is_the_mean_of_log_likelihood_per_character() -> None:
    texts = ["A", "AB", "BB", "ABA", "AAA", "BABAB"]
    logits = random_logits(len(texts), T, K, seed=1)
    each = [-math.log(probabilities(one, "AB")[text]) / len(text) for one, text in zip(logits, texts, strict=True)]
    codec = CTCCodec("AB")
    assert codec.loss(logits, texts).item() == pytest.approx(sum(each) / len(each), rel=1e-5)
    alone = [codec.loss(logits[i : i + 1], [text]).item() for i, text in enumerate(texts)]
    assert alone == pytest.approx(each, rel=1e-5)


def test_probabilities_of_all_texts_sum_to_one() -> None:
    texts = sorted({collapse(path, "AB") for path in PATHS})
    logits = random_logits(1, T, K, seed=2)
    losses = [CTCCodec("AB").loss(logits, [text]).item() * max(1, len(text)) for text in texts]
    assert math.fsum(math.exp(-loss) for loss in losses) == pytest.approx(1, abs=1e-5)


def test_steps_are_the_fewest_frames_that_spell_a_text() -> None:
    fewest = {collapse(path, "AB"): n for n in range(T, -1, -1) for path in itertools.product(range(K), repeat=n)}
    assert {text: CTCCodec("AB").steps(text) for text in fewest} == fewest and len(fewest) == 25
    assert FixedLengthCodec("AB", 4).steps("AABA") == 4


@pytest.mark.parametrize(("text", "frames"), [("ABABAB", 6), ("AABB", 6), ("AAA", 5), ("ABAAB", 6)])
def test_ctc_refuses_exactly_the_texts_that_do_not_fit(text: str, frames: int) -> None:
    codec = CTCCodec("AB")
    with pytest.raises(ValueError, match=f"'{text}' needs {frames} frames .* the network gives {frames - 1}"):
        codec.loss(random_logits(2, frames - 1, K), ["A", text])
    assert math.isfinite(codec.loss(random_logits(1, frames, K), [text]))  # one frame more is enough


@pytest.mark.parametrize("codec", [CTCCodec("AB"), FixedLengthCodec("AB", 3)])
@pytest.mark.parametrize("loss", ["loss", "warmup_loss"])
def test_unknown_characters_are_named(codec: Codec, loss: str) -> None:
    with pytest.raises(ValueError, match=r"'A\?B' has \['\?'\], which the charset 'AB'"):
        getattr(codec, loss)(random_logits(2, 3, codec.classes), ["ABA", "A?B"])
    assert codec.can_spell("BA") and not codec.can_spell("A?B") and not codec.can_spell("a")


@pytest.mark.parametrize(
    ("text", "spread"), [("AB", "AAABBB"), ("ABC", "AABBCC"), ("CABA", "CAABAA"), ("AABB", "AAABBB")]
)
def test_warmup_teaches_evenly_spread_characters(text: str, spread: str) -> None:
    codec = CTCCodec("ABC")
    right = tuple("-ABC".index(c) for c in spread)
    assert codec.warmup_loss(sure([right], 4), [text]).item() < 1e-4
    for wrong in set(itertools.permutations(right)) - {right}:
        assert codec.warmup_loss(sure([wrong], 4), [text]).item() > 1
    assert codec.warmup_loss(sure([(0,) * len(spread)], 4), [text]).item() > 1  # it teaches no blank


def test_warmup_takes_each_text_by_itself() -> None:
    codec, paths = CTCCodec("AB"), [(1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (1, 2, 1, 2, 1)]
    assert codec.warmup_loss(sure(paths, K), ["AB", "B", "ABABA"]).item() < 1e-4


def test_fixed_length_round_trip() -> None:
    codec, texts = FixedLengthCodec("XYZ", 2), ["".join(pair) for pair in itertools.product("XYZ", repeat=2)]
    paths = list(itertools.product(range(3), repeat=2))
    assert codec.classes == 3
    assert [reading.text for reading in codec.read(sure(paths, 3))] == texts
    assert codec.loss(sure(paths, 3), texts).item() < 1e-6
    assert codec.loss(sure(paths, 3), texts[::-1]).item() > 1


def test_fixed_length_loss_and_confidence_by_hand() -> None:
    logits = random_logits(3, 2, 3, seed=3)
    shares = logits.double().softmax(-1).tolist()
    texts, codec = ["XY", "ZZ", "YX"], FixedLengthCodec("XYZ", 2)
    logs = [
        math.log(frames[t]["XYZ".index(character)])
        for frames, text in zip(shares, texts, strict=True)
        for t, character in enumerate(text)
    ]
    assert codec.loss(logits, texts).item() == pytest.approx(-sum(logs) / 6, rel=1e-5)
    assert codec.warmup_loss(logits, texts).item() == codec.loss(logits, texts).item()
    readings = codec.read(logits)
    assert [r.confidence for r in readings] == pytest.approx([max(a) * max(b) for a, b in shares], rel=1e-5)
    assert [r.text for r in readings] == ["".join("XYZ"[f.index(max(f))] for f in frames) for frames in shares]


@pytest.mark.parametrize("text", ["", "X", "XYX"])
def test_fixed_length_refuses_other_lengths_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' has {len(text)} characters; this recipe reads exactly 2"):
        FixedLengthCodec("XYZ", 2).loss(random_logits(2, 2, 3), ["XY", text])


@pytest.mark.parametrize("make", [CTCCodec, lambda charset: FixedLengthCodec(charset, 4)])
def test_a_charset_that_cannot_be_used_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match="the charset is empty"):
        make("")
    with pytest.raises(ValueError, match=r"'ABCAB' holds \['A', 'B'\] more than once"):
        make("ABCAB")
    assert make("Aa").charset == "Aa"  # case counts


def test_a_length_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(ValueError, match="the text length is 0"):
        FixedLengthCodec("AB", 0)


@pytest.mark.parametrize("codec", [CTCCodec("äB"), FixedLengthCodec("äBC", 5)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits(codec: Codec, dtype: torch.dtype) -> None:
    half, texts = random_logits(4, T, codec.classes, seed=4).to(dtype), ["äBäBB"[:T]] * 4
    texts = texts if isinstance(codec, FixedLengthCodec) else ["äB", "B", "ää", "BäB"]
    assert codec.read(half) == codec.read(half.float())
    for loss in (codec.loss, codec.warmup_loss):
        assert loss(half, texts).item() == pytest.approx(loss(half.float(), texts).item())
        assert loss(half, texts).dtype == torch.float32


@pytest.mark.parametrize("codec", [CTCCodec("ABCD"), FixedLengthCodec("ABCDE", 7)])
def test_reading_does_not_depend_on_batch_mates(codec: Codec) -> None:
    logits = random_logits(8, 7, 5, seed=5)
    together = codec.read(logits)
    assert len({reading.text for reading in together}) > 4
    for i, reading in enumerate(together):
        alone = codec.read(logits[i : i + 1])[0]
        assert alone.text == reading.text and alone.confidence == pytest.approx(reading.confidence, rel=1e-5)
    assert [r.text for r in codec.read(logits.flip(0))] == [r.text for r in together[::-1]]


def test_reading_leaves_the_logits_as_they_are() -> None:
    logits = random_logits(4, T, K, seed=6).requires_grad_()
    before = logits.detach().clone()
    CTCCodec("AB").read(logits)
    assert torch.equal(logits, before)


def _positions(charset: str) -> FixedLengthCodec:
    return FixedLengthCodec(charset, 4)


@pytest.mark.parametrize(("make", "own", "others"), [(CTCCodec, [0, 1, 3], [0, 3, 1]), (_positions, [0, 2], [2, 0])])
def test_shared_classes_are_those_of_the_same_characters(make: object, own: list[int], others: list[int]) -> None:
    assert make("CxA").shared_classes(make("ABC")) == (own, others)
