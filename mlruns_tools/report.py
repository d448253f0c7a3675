"""What a merge or an upload did, as a person is told it, and which of MLflow's pages show it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mlruns_tools.fixed_paths import shown

VIEW = "?workflowType=machine_learning"  # without it MLflow opens its pages for language models
SHOWN = ("runs", "metrics", "logged models", "model versions", "traces", "files")


@dataclass
class Merged:
    """What a merge did."""

    target: Path | str  # the record's folder, or the server's address
    brought: dict[str, str] = field(default_factory=dict)  # runs, {id: name}
    left: dict[str, str] = field(default_factory=dict)  # runs that were there already
    deleted: int = 0  # runs that are deleted in the source, and so are not brought
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # of the source: artifacts that are lost
    begun: list[str] = field(default_factory=list)  # what is changed in the target by now

    @property
    def exit_code(self) -> int:
        return 1 if self.problems else 0

    def __str__(self) -> str:
        lines = [f"Target: {self.target}"]
        lines += [f"brought {run} {name}" for run, name in self.brought.items()]
        lines += [f"{len(self.left)} run(s) were there already and are left alone"] if self.left else []
        lines += [f"{self.deleted} deleted run(s) of the source are not brought"] if self.deleted else []
        lines += ["Brought: " + ", ".join(f"{self.counts[name]} {name}" for name in SHOWN)]
        lines += self.notes
        lines += (
            [f"PROBLEMS: {len(self.problems)}", *(f"  {problem}" for problem in self.problems)] if self.problems else []
        )
        return "\n".join(map(shown, lines))
