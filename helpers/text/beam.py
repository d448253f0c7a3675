"""Beam search: log-probabilities (T, K) in, the likeliest texts and their probabilities out, under constraints.

A constraint is what a user knows of the texts: their length, a smaller charset, a pattern, or the list of valid ones.
Source: Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent
DNNs", https://arxiv.org/abs/1408.2873, algorithm 1, without a language model.
"""

from collections.abc import Sequence

import numpy as np

from helpers.text.constraint import NEVER, Constraint, Pattern

BEAM = 32  # prefixes kept in each frame, of those that lack the same number of characters


class Steps:
    """The steps of a constraint over the whole charset, each state's computed once."""

    def __init__(self, constraint: Constraint, charset: str) -> None:
        self.constraint, self.charset = constraint, charset
        self._known: dict[object, tuple[list[object], np.ndarray]] = {}

    def __getitem__(self, state: object) -> tuple[list[object], np.ndarray]:
        """The states behind each character, and how many characters each then lacks; NEVER: no valid text goes on so."""
        if state not in self._known:
            after = [self.constraint.step(state, character) for character in self.charset]
            lacking = [NEVER if s is None else self.constraint.missing(s) for s in after]
            self._known[state] = after, np.array(lacking)
        return self._known[state]


class Prefixes:
    """The beginnings of texts that a beam holds, N of them, and what their states allow next."""

    def __init__(self, texts: list[str], states: list[object], last: np.ndarray, lacking: np.ndarray) -> None:
        self.texts, self.states = texts, states
        self.last = last  # (N,), index of the last character in the charset, -1 for ""
        self.lacking = lacking  # (N,), characters to the next valid text

    @classmethod
    def empty(cls, constraint: Constraint) -> "Prefixes":
        return cls([""], [constraint.start], np.array([-1]), np.array([constraint.missing(constraint.start)]))

    def chosen(
        self, kept: np.ndarray, rows: np.ndarray, characters: np.ndarray, lacking: np.ndarray, steps: Steps
    ) -> "Prefixes":
        """The rows `kept` as they are, then the `rows` that each get one of the `characters`; `lacking` is theirs."""
        old, grown = kept.tolist(), list(zip(rows.tolist(), characters.tolist(), strict=True))
        texts = [self.texts[row] for row in old] + [self.texts[row] + steps.charset[c] for row, c in grown]
        states = [self.states[row] for row in old] + [steps[self.states[row]][0][c] for row, c in grown]
        return Prefixes(texts, states, np.concatenate([self.last[kept], characters]), lacking)

    def lacking_longer(self, steps: Steps) -> np.ndarray:
        """(N, K): characters to the next valid text, with one more character."""
        return np.stack([steps[state][1] for state in self.states])

    def parents(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, the rows of the prefixes one character shorter), of those that have one here."""
        place = {text: row for row, text in enumerate(self.texts)}
        pairs = [(row, place[text[:-1]]) for row, text in enumerate(self.texts) if text and text[:-1] in place]
        rows, parents = np.array(pairs, dtype=int).reshape(-1, 2).T
        return rows, parents


def _best_of_each(scores: np.ndarray, lacking: np.ndarray, left: int, beam: int) -> np.ndarray:
    """Places of the `beam` best scores among those that lack the same number of characters, which is `left` at most."""
    possible = np.flatnonzero((lacking <= left) & (scores > -np.inf))
    chosen = [possible[:0]]
    for number in np.flatnonzero(np.bincount(lacking[possible])):
        places = possible[lacking[possible] == number]
        if len(places) > beam:
            places = places[np.argpartition(-scores[places], beam - 1)[:beam]]
        chosen.append(places)
    return np.concatenate(chosen)


def prefix_beam_search(
    log_probabilities: np.ndarray,
    charset: str,
    constraint: Constraint | None = None,
    best: int = 1,
    beam: int = BEAM,
    blank: int = 0,
) -> list[tuple[str, float]]:
    """The `best` likeliest valid texts with their log-probabilities, likeliest first, of (T, K) in nats; class = index + 1.

    Each probability is exact, summed over all alignments. Which texts are found is exact where no prefix had to be
    dropped, at the latest with a `beam` of as many prefixes as there are. Fewer than `best`, or none, come back where the
    frames cannot spell more valid texts.
    """
    constraint = constraint or Pattern(".*", charset)
    scores = np.asarray(log_probabilities, dtype=np.float64)
    steps, prefixes = Steps(constraint, charset), Prefixes.empty(constraint)
    silent, spoken = np.zeros(1), np.full(1, -np.inf)  # (N,), of the paths so far that end in a blank, in a character
    for t, frame in enumerate(scores):
        N, last = len(silent), prefixes.last
        both = np.logaddexp(silent, spoken)
        longer = both[:, None] + frame[1:]  # (N, K - 1)
        some = np.flatnonzero(last >= 0)
        longer[some, last[some]] = silent[some] + frame[1 + last[some]]  # a doubled letter begins behind a blank
        silent, spoken = both + frame[blank], spoken + frame[1 + last]
        rows, parents = prefixes.parents()
        spoken[rows] = np.logaddexp(spoken[rows], longer[parents, last[rows]])
        longer[parents, last[rows]] = -np.inf  # counted where it stands
        found = np.concatenate([np.logaddexp(silent, spoken), longer.ravel()])
        lacking = np.concatenate([prefixes.lacking, prefixes.lacking_longer(steps).ravel()])
        places = _best_of_each(found, lacking, len(scores) - t - 1, max(beam, best))
        if not len(places):
            return []
        places.sort()  # those that stay as they are first
        kept, new = places[places < N], places[places >= N]
        prefixes = prefixes.chosen(kept, *divmod(new - N, len(charset)), lacking[places], steps)
        silent = np.concatenate([silent[kept], np.full(len(new), -np.inf)])
        spoken = np.concatenate([spoken[kept], found[new]])
    texts = [text for text, lacking in zip(prefixes.texts, prefixes.lacking, strict=True) if lacking == 0]
    ids = [[charset.index(character) + 1 for character in text] for text in texts]
    exact = log_likelihoods(np.broadcast_to(scores, (len(texts), *scores.shape)), ids, blank)
    return sorted(zip(texts, map(float, exact), strict=True), key=lambda pair: (-pair[1], pair[0]))[:best]


def position_beam_search(
    log_probabilities: np.ndarray, charset: str, constraint: Constraint | None = None, best: int = 1, beam: int = BEAM
) -> list[tuple[str, float]]:
    """The same where position t of (T, K) is character t of the text; class = index. Exact without a constraint."""
    constraint = constraint or Pattern(".*", charset)
    scores = np.asarray(log_probabilities, dtype=np.float64)
    steps, prefixes = Steps(constraint, charset), Prefixes.empty(constraint)
    so_far = np.zeros(1)  # (N,), log-probability of each prefix
    for t, position in enumerate(scores):
        longer = (so_far[:, None] + position).ravel()  # (N * K)
        lacking = prefixes.lacking_longer(steps).ravel()
        places = _best_of_each(longer, lacking, len(scores) - t - 1, max(beam, best))
        if not len(places):
            return []
        prefixes = prefixes.chosen(places[:0], *divmod(places, len(charset)), lacking[places], steps)
        so_far = longer[places]
    found = zip(prefixes.texts, so_far.tolist(), strict=True)
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:best]


def log_likelihoods(scores: np.ndarray, ids: Sequence[Sequence[int]], blank: int = 0) -> np.ndarray:
    """log P(text) in nats, (B,), of the class ids of B texts in log-probabilities (B, T, K); minus the CTC loss.

    The sum over all alignments with the frames, over S = 2 * characters + 1 labels, the blanks among them.
    Source: Graves et al. 2006, "Connectionist Temporal Classification", section 4.1.
    """
    B, T, _ = scores.shape
    labels = np.full((B, 2 * max(map(len, ids), default=0) + 1), blank)  # (B, S)
    for row, text in zip(labels, ids, strict=True):
        row[1 : 2 * len(text) : 2] = text
    spoken = np.take_along_axis(scores, labels[:, None], 2)  # (B, T, S)
    skips = np.full(labels.shape, -np.inf)  # 0 where the blank before a label may lack
    skips[:, 2:][(labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])] = 0
    forward = np.full((B, labels.shape[1] + 2), -np.inf)  # two places that no path reaches, then S labels
    forward[:, 2:4] = spoken[:, 0, :2]
    for t in range(1, T):
        skip = forward[:, :-2] + skips
        forward[:, 2:] = np.logaddexp(np.logaddexp(forward[:, 2:], forward[:, 1:-1]), skip) + spoken[:, t]
    rows, ends = np.arange(B), np.array([2 * len(text) + 2 for text in ids], dtype=int)
    return np.logaddexp(forward[rows, ends], forward[rows, ends - 1])
