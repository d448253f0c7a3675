"""The verbs of the command line, as functions of their arguments."""

from collections.abc import Sequence

from helpers.__main__ import main


def read(arguments: Sequence[str]) -> int:
    """The model stands first."""
    return main(["read", "--model", *arguments])


def audit(arguments: Sequence[str]) -> int:
    return main(["audit", *arguments])


def synthetic(arguments: Sequence[str]) -> int:
    return main(["synthetic", *arguments])


def export(arguments: Sequence[str]) -> int:
    return main(["export", *arguments])
