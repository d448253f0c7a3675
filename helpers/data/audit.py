"""What a set of captchas holds and what is wrong with it, before the first epoch: samples and pictures in, findings out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from helpers.data.finding import Finding, in_numbers, ranked
from helpers.data.findings import findings_of
from helpers.models.recipes import Recipe
from helpers.output import json_text, shown
from helpers.pictures.decoding import Picture
from helpers.sources.names import Sample

RARE = 10  # occurrences below which a character is called rare


@dataclass(frozen=True)
class Audit:
    """Counts of a data set, and findings; print it to read it. Counts are from the most frequent to the rarest."""

    source: str
    images: int
    formats: dict[str, int]
    modes: dict[str, int]
    sizes: dict[str, int]  # "WIDTHxHEIGHT", pixels
    lengths: dict[str, int]  # characters of a text
    characters: dict[str, int]
    texts: int  # different ones
    repeated_texts: dict[str, int]
    doubled: int  # images whose text has two equal neighbours
    steps: dict[str, int | str]  # the text that needs the largest part of what the network gives
    rare_below: int  # occurrences
    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "warning"]

    def to_json(self) -> str:
        """Everything, every file by its name."""
        return json_text(asdict(self), indent=1) + "\n"

    def __str__(self) -> str:
        steps = "{needed} of {available} steps of the network are needed by {text!r}"
        rows = [
            ("images", str(self.images)),
            ("formats", in_numbers(self.formats) + "  (by content)"),
            ("modes", in_numbers(self.modes)),
            ("sizes", in_numbers(self.sizes) + "  (width x height, pixels)"),
            ("lengths", in_numbers(self.lengths) + "  (characters)"),
            ("charset", f"{len(self.characters)} characters: {shown(''.join(sorted(self.characters)))}"),
            ("frequency", in_numbers(self.characters, 100)),
            ("texts", f"{self.texts} different, {len(self.repeated_texts)} of them on several images"),
            ("repeated", in_numbers(self.repeated_texts)),
            ("doubled", f"{self.doubled} images have a text with two equal neighbours"),
            ("steps", steps.format(**self.steps) if self.steps else ""),
        ]
        lines = [f"Audit of {shown(self.source)}"]
        lines += [f"  {name:<10}{said}" for name, said in rows if said]
        for name, findings in (("ERRORS", self.errors), ("WARNINGS", self.warnings)):
            lines += [name if findings else f"no {name.lower()}"]
            lines += [f"  {finding}" for finding in findings]
        return "\n".join(lines)


def audit(
    source: Path | str,
    samples: Sequence[Sample],
    found: Sequence[Picture],
    recipe: Recipe,
    room: dict[int, tuple[int, int]],
    charset: str | None = None,
    rare: int = RARE,
    by_name: bool = True,
) -> Audit:
    """What the samples of a source and their pictures hold, for a recipe; `charset` is the one that was asked for, if any.

    `room` has, by the place of each picture that can be read, the steps that its text needs and those that the network gives.
    `by_name` tells that texts come from file names, and not from a table, so that suffixes and running numbers are
    looked for.
    """
    good = [index for index, picture in enumerate(found) if not picture.problem]
    texts = [sample.text for sample in samples]
    tightest = max(good, key=lambda index: room[index][0] / room[index][1], default=None)
    findings = findings_of(source, samples, found, recipe, room, charset, rare, by_name)
    repeated = {text: count for text, count in ranked(texts).items() if count > 1}
    return Audit(
        source=str(source),
        images=len(samples),
        formats=ranked(found[index].format for index in good),
        modes=ranked(found[index].mode for index in good),
        sizes=ranked("{}x{}".format(*found[index].size) for index in good),
        lengths=ranked(map(len, texts)),
        characters=ranked("".join(texts)),
        texts=len(set(texts)),
        repeated_texts=repeated,
        doubled=sum(any(a == b for a, b in zip(text, text[1:], strict=False)) for text in texts),
        steps=dict(zip(("needed", "available"), room[tightest], strict=True)) | {"text": texts[tightest]}
        if good
        else {},
        rare_below=rare,
        findings=findings,
    )
