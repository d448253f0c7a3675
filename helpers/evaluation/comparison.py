"""Is A better than B? Models side by side on the same captchas, with intervals and a paired test."""

from dataclasses import dataclass

import pandas

from helpers.evaluation.trial import Model, Trial
from helpers.output import shown
from helpers.text import metrics


@dataclass(frozen=True)
class Comparison:
    """Models side by side on the same captchas, and the paired test of the first against each of the others."""

    models: list[Model]
    scores: list[metrics.Score]
    tests: list[metrics.PairedTest]  # of the first with each other one
    p_values: list[float]  # of these tests; corrected where there are several
    folded: bool  # whether upper and lower case are taken as the same

    def __str__(self) -> str:
        lines = [self._table()]
        names = [model.name for model in self.models]
        for name, test, p in zip(names[1:], self.tests, self.p_values, strict=True):
            lines.append(test.in_words(names[0], name, p))
        if not self.tests:
            lines.append("only one model is judged on these captchas, so that there is none to compare it with: train")
            lines.append("another one with the same data and seed, such as CAPTCHA_RECIPE=conv_ctc")
        if len(self.tests) > 1:
            lines.append(f"p is corrected for {len(self.tests)} comparisons (Holm)")
        if self.folded:
            lines.append("upper and lower case are taken as the same, since not all of these models tell them apart")
        return "\n".join(lines)

    def _table(self) -> str:
        rows = []
        for model, score in zip(self.models, self.scores, strict=True):
            known = model.run.data.metrics if model.run else {}
            rows.append(
                {
                    "model": shown(model.name),
                    "validation": f"{100 * known['best_val_exact']:.1f} %" if "best_val_exact" in known else "",
                    "right": f"{round(score.exact * score.n)} of {score.n}",
                    "exact match": f"{100 * score.exact:.1f} %",
                    "95 % interval": f"{100 * score.exact_low:.1f} to {100 * score.exact_high:.1f}",
                    "CER": f"{100 * score.cer:.2f} %",
                    "trained, s": f"{known['train_seconds']:.0f}" if "train_seconds" in known else "",
                }
            )
        return pandas.DataFrame(rows).to_string(index=False)

    @property
    def shares(self) -> dict[str, tuple[int, int]]:
        """Of each model, how many captchas it read right, of how many; `plots.readings.shares` draws them."""
        return {m.name: (round(s.exact * s.n), s.n) for m, s in zip(self.models, self.scores, strict=True)}


def compare(trial: Trial) -> Comparison:
    """Scores of all models of a trial, and whether the first differs from the others by more than chance.

    Where the models were trained for different cases of the texts, case is folded for all of them.
    """
    folded = len({model.reader.case for model in trial.models}) > 1
    fold = str.casefold if folded else str
    truths = [fold(text) for text in trial.test.texts]
    read = [[fold(reading.text) for reading in readings] for readings in trial.readings]
    first, *others = ([a == b for a, b in zip(texts, truths, strict=True)] for texts in read)
    tests = [metrics.mcnemar(first, other) for other in others]
    scores = [metrics.score(texts, truths) for texts in read]
    return Comparison(trial.models, scores, tests, metrics.holm([test.p for test in tests]), folded)
