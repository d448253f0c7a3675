"""One thing that is wrong with a set, as a person is told it; counts in words."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from helpers.output import printable, shown
from helpers.pictures.opening import first_names

SKIP = "mend or remove them, or set on_bad='skip' (CAPTCHA_ON_BAD=skip) to go on without them"


@dataclass(frozen=True)
class Finding:
    """Something a person should know before training; an error stops it, a warning does not."""

    level: str  # "error" or "warning"
    about: str  # a short key, the same in every report
    says: str
    remedy: str = ""
    files: list[tuple[str, str]] = field(default_factory=list)  # (name, what about it)

    def __str__(self) -> str:
        listed = [f"{name} ({detail})" if detail else name for name, detail in self.files]
        named = f": {first_names(listed)}" if listed else ""
        remedy = f"\n    -> {printable(self.remedy)}" if self.remedy else ""
        return f"{self.about}: {printable(self.says)}{named}{remedy}"


def in_numbers(counts: dict[str, int], most: int = 12) -> str:
    """'PNG: 500, JPEG: 15'."""
    first = ", ".join(f"{shown(name)}: {count}" for name, count in list(counts.items())[:most])
    return first + f" and {len(counts) - most} more" * (len(counts) > most)


def ranked(values: Iterable[object]) -> dict[str, int]:
    ranked = sorted(Counter(map(str, values)).items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked)


def usual(values: Iterable[int]) -> int:
    return Counter(values).most_common(1)[0][0]
