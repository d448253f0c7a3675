"""What leaves the project: names and texts as terminals, spreadsheets and JSON may have them; tables read back exactly.

Names of files and texts of captchas come from strangers. A terminal obeys control characters, shows other characters
elsewhere than they stand (U+202E), and a spreadsheet runs what begins with `=`.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from numbers import Number
from typing import TextIO

MAX_SHOWN, MAX_SENTENCE = 300, 4_000  # characters of a name, and of a sentence with names, that a person is shown
READINGS = ("path", "text", "confidence")  # the first columns of what `python -m helpers read` writes
SPLIT_LIST = ("file", "text", "split", "content")  # of a run's split list; content: see `decoding.digest`
PATHS = ("file", "path")  # columns that hold names of files
FORMULA = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # what formulas begin with; the last four are their full-width forms
ESCAPE = re.compile(r"\\u([0-9a-f]{4})|\\U(000[0-9a-f]{5}|0010[0-9a-f]{4})")


def printable(text: object, keep: str = "") -> str:
    """The text with escapes such as `\\u001b` for control characters and for what changes how others are shown."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep or unicodedata.category(c) == "Zs" else _escape(c) for c in text)


def shown(name: object) -> str:
    """A name on one line, as a terminal may have it; of a long one the beginning and the end."""
    return printable(_shortened(str(name), MAX_SHOWN))


def sentence(error: object) -> str:
    """What an error says, as a terminal may have it; its own lines stay."""
    return printable(_shortened(str(error), MAX_SENTENCE), keep="\n")


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} ... {text[-most // 2 :]} ({len(text)} characters)"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def say(said: object, file: TextIO | None = None) -> None:
    """Prints a line, as a terminal may have it; on standard output by default."""
    print(printable(_shortened(str(said), MAX_SENTENCE)), file=file)


def json_text(value: object, indent: int | None = None) -> str:
    """JSON that gives the same back, letters as they are, and no character that `printable` would not show."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text.translate({ord(c): json.dumps(c)[1:-1] for c in set(text) if not c.isprintable() and c != "\n"})


def harmless(columns: Sequence[str], row: Sequence[object]) -> list[object]:
    """A row of a table as it is written: no cell runs in a spreadsheet, none obeys a terminal. `plain` is the way back.

    A name of a file gets `./` before a formula's sign, so that it still opens; a text gets `'`, which spreadsheets take for
    "this is text". Control characters, spaces at the ends, and signs behind a `;` (which separates cells in some
    countries) become escapes, as in `\\u001b`; then backslashes are doubled. Numbers stay.
    """
    return [_harmless(cell, name in PATHS) for name, cell in zip(columns, row, strict=True)]


def _harmless(cell: object, path: bool) -> object:
    if isinstance(cell, Number):
        return cell
    text = _escaped(str(cell))
    return re.sub(f"^(?=[{FORMULA}])", "./", text) if path else re.sub(f"^(?='*[{FORMULA}])", "'", text)


def _escaped(text: str) -> str:
    inner = text.strip()
    first = len(text) - len(text.lstrip())
    ends = {place for place in range(len(text)) if not first <= place < first + len(inner)}
    signs = {match.start() for match in re.finditer(f"(?<=;)[{FORMULA}]", text)}
    if printable(text) == text and not ends | signs and not ESCAPE.search(text):
        return text
    return "".join(
        _escape(c) if place in ends | signs else "\\\\" if c == "\\" else printable(c) for place, c in enumerate(text)
    )


def is_ours(columns: Sequence[str]) -> bool:
    """Whether a table with these columns was written by this project, so that `plain` gives what its cells stand for."""
    return tuple(columns[:3]) == READINGS or tuple(columns) == SPLIT_LIST


def plain(cell: str, path: bool = False) -> str:
    """What a cell stands for that `harmless` wrote."""
    cell = re.sub(rf"^\./(?=[{FORMULA}])", "", cell) if path else re.sub(f"^'(?='*[{FORMULA}])", "", cell)
    if not ESCAPE.search(cell):
        return cell
    tokens = re.compile(rf"{ESCAPE.pattern}|\\\\")  # a doubled backslash is one, whatever follows it
    return tokens.sub(lambda m: chr(int(m[1] or m[2], 16)) if m[1] or m[2] else "\\", cell)


def cause(error: Exception) -> str:
    """An error in one line of at most 200 letters, or its kind where it says nothing."""
    return shown(next(iter(str(error).splitlines()), type(error).__name__)[:200])
