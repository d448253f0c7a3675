"""What is wrong with a set of captchas: a function per kind of finding, each naming its files and the setting that helps."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from os.path import commonprefix
from pathlib import Path

from helpers.data.finding import SKIP, Finding, in_numbers, ranked, usual
from helpers.models.recipes import Recipe
from helpers.pictures.decoding import Picture, images_differ_in_shape
from helpers.pictures.opening import archive_of, is_picture, list_pictures, stem
from helpers.sources.names import LISTS, TABLES, Sample, base_of, propose_pattern, relative_name
from helpers.synthetic.folder import MARKER

ODD_SHARE = 0.05  # of the texts: a kind of character or a length that fewer of them have is called odd


FORMATS = {"jpg": "JPEG", "tif": "TIFF"}  # suffixes that are not the format's name


KINDS = {  # of characters, with the setting that would do away with a stray one
    "capital letters": (str.isupper, "CAPTCHA_CASE=lower (case='lower') if the pictures do not tell the cases apart"),
    "small letters": (str.islower, "CAPTCHA_CASE=upper (case='upper') if the pictures do not tell the cases apart"),
    "digits": (str.isdigit, "rename them if the digits belong to no text"),
    "other characters": (
        lambda character: not character.isalnum(),
        "CAPTCHA_LABEL_PATTERN (label_pattern='...') cuts the text out of the name; or rename them",
    ),
}


MANY_DIGITS = 20  # of a number that counts nothing


def findings_of(
    source: Path | str,
    samples: Sequence[Sample],
    found: Sequence[Picture],
    recipe: Recipe,
    room: dict[int, tuple[int, int]],
    charset: str | None,
    rare: int,
    by_name: bool,
) -> list[Finding]:
    """All that is wrong, errors and warnings; the arguments are those of `audit.audit`."""
    names = [relative_name(sample.path, source) for sample in samples]
    texts = [sample.text for sample in samples]
    findings = [
        _unreadable(names, found),
        _two_texts(names, texts, found),
        _unexpected(names, texts, charset),
        *_lengths(names, texts, recipe),
        _shapes(names, found, recipe),
        _too_long(names, texts, room, recipe),
        *_beside(source, samples),
        _misnamed(names, samples, found),
        *(_names(samples) if by_name else ()),
        _odd_modes(names, found),
        _rare(texts, rare),
        *_odd_kinds(names, texts),
        *_twice(names, texts, found),
        _both_cases(texts),
        _case_only(names, texts),
        _frames(names, found),
    ]
    return [finding for finding in findings if finding]


def _unreadable(names: Sequence[str], found: Sequence[Picture]) -> Finding | None:
    files = [(name, picture.problem) for name, picture in zip(names, found, strict=True) if picture.problem]
    return Finding("error", "unreadable", "cannot read", SKIP, files) if files else None


def _same(keys: Sequence[str]) -> list[list[int]]:
    """Indices of equal keys, where there are several; empty keys are no keys."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return [group for key, group in groups.items() if key and len(group) > 1]


def _two_texts(names: Sequence[str], texts: Sequence[str], found: Sequence[Picture]) -> Finding | None:
    files = []
    for group in _same([picture.look for picture in found]):
        if len({texts[index] for index in group}) > 1:
            files += [(names[i], "the same picture as " + names[group[i == group[0]]]) for i in group]
    said = "identical pictures have different texts, at most one of which is right"
    return Finding("error", "same picture, two texts", said, SKIP, files) if files else None


def _unexpected(names: Sequence[str], texts: Sequence[str], charset: str | None) -> Finding | None:
    if charset is None:
        return None
    strange = [(name, "".join(sorted(set(text) - set(charset)))) for name, text in zip(names, texts, strict=True)]
    files = [(name, f"has {characters!r}") for name, characters in strange if characters]
    remedy = f"add them to the charset, or {SKIP}"
    said = f"texts have characters that the charset {charset!r} does not hold"
    return Finding("error", "unexpected characters", said, remedy, files) if files else None


def _lengths(names: Sequence[str], texts: Sequence[str], recipe: Recipe) -> list[Finding]:
    counts, most = Counter(map(len, texts)), usual(map(len, texts))
    odd = [n for n in counts if n != most and (recipe.fixed_length or counts[n] < ODD_SHARE * len(texts))]
    files = [(name, f"{len(text)} characters") for name, text in zip(names, texts, strict=True) if len(text) in odd]
    if files and recipe.fixed_length:
        remedy = f"take a CTC recipe (train_ctc), or {SKIP}"
        said = f"the recipe {recipe.name} reads texts of one length, here {most} characters; this is not the length of"
        return [Finding("error", "unexpected lengths", said, remedy, files)]
    said = f"a length that fewer than {ODD_SHARE:.0%} of the texts have, {most} being usual"
    return (
        [Finding("warning", "unexpected lengths", said, "look whether their texts are whole", files)] if files else []
    )


def _shapes(names: Sequence[str], found: Sequence[Picture], recipe: Recipe) -> Finding | None:
    readable = [picture for picture in found if not picture.problem]
    if not images_differ_in_shape(readable):
        return None
    size, _ = Counter(picture.size for picture in readable).most_common(1)[0]
    others = [(n, p) for n, p in zip(names, found, strict=True) if not p.problem and p.size != size]
    far = [(name, picture) for name, picture in others if images_differ_in_shape([picture, Picture(size=size)])]
    files = [(name, "{} x {}".format(*picture.size)) for name, picture in far or others]
    said = "another shape than {} x {}, width x height in pixels".format(*size)
    if recipe.aspect == "keep":
        said += "; for their sake every picture keeps its shape and is padded to its own width"
        few = len(files) < ODD_SHARE * len(found)
        return Finding("warning", "shapes", said, "remove them, or CAPTCHA_ASPECT=squeeze", files) if few else None
    if recipe.aspect == "squeeze":
        return Finding("warning", "shapes", f"{said}; squeezed to one, as aspect='squeeze' says", "", files)
    remedy = f"take a CTC recipe, which keeps shapes, or set aspect='squeeze' (CAPTCHA_ASPECT=squeeze), or {SKIP}"
    return Finding("error", "shapes", f"the recipe {recipe.name} reads one shape; {said}", remedy, files)


def _too_long(
    names: Sequence[str], texts: Sequence[str], room: dict[int, tuple[int, int]], recipe: Recipe
) -> Finding | None:
    files = [
        (names[i], f"{texts[i]!r} needs {needed}, has {given}") for i, (needed, given) in room.items() if needed > given
    ]
    remedy = "raise image_size (CAPTCHA_IMAGE_SIZE=HEIGHTxWIDTH, pixels)"
    said = "texts that need more steps than the network gives"
    return Finding("error", "too long", said, remedy, files) if files and not recipe.fixed_length else None


def _beside(source: Path | str, samples: Sequence[Sample]) -> list[Finding]:
    """What lies in the source and is no sample: nothing is passed over in silence."""
    if not isinstance(source, Path):
        return []
    base = base_of(source)
    taken = {sample.path for sample in samples} | {source}
    pictures, others = (
        [(path, relative_name(path, source)) for path in paths if path not in taken and path.is_relative_to(base)]
        for paths in list_pictures(archive_of(base) or base)
    )
    others = [(path, name) for path, name in others if path.name != MARKER]
    hidden = [(name, "") for path, name in others if is_picture(path)]
    lists = [(name, "") for path, name in others if path.suffix.lower() in TABLES | LISTS]
    tables = [entry for entry in lists if entry not in hidden]
    rest = [(name, "") for _, name in others if (name, "") not in hidden + tables]
    given = [(name, "") for _, name in pictures]
    remedy = "if it holds the texts, name it instead of the folder: CAPTCHA_DATA=FOLDER/" + (tables or [("", "")])[0][0]
    kinds = (
        ("not in the table", "pictures that no line names", "", given),
        ("not named like pictures", "pictures by their content, left out", "give them their suffix", hidden),
        ("tables and lists", "left out", remedy, tables),
        ("other files", "no pictures, left out", "", rest),
    )
    return [Finding("warning", about, said, remedy, files) for about, said, remedy, files in kinds if files]


def _misnamed(names: Sequence[str], samples: Sequence[Sample], found: Sequence[Picture]) -> Finding | None:
    files = []
    for name, sample, picture in zip(names, samples, found, strict=True):
        suffix = sample.path.suffix.lower()[1:]
        expected = FORMATS.get(suffix, suffix.upper())
        if picture.format and picture.format != expected and {picture.format, expected} != {"MPO", "JPEG"}:
            files.append((name, picture.format))
    return (
        Finding("warning", "misnamed", "the content is of another format, and read as such", "", files)
        if files
        else None
    )


def _names(samples: Sequence[Sample]) -> list[Finding]:
    """Suffixes behind the text, and names that are numbers."""
    stems = [stem(sample.path) for sample in samples]
    findings = []
    if [sample.text for sample in samples] == stems or {s.text.lower() for s in samples} == {s.lower() for s in stems}:
        if pattern := propose_pattern(stems):
            match = next(m for s in stems if (m := re.fullmatch(pattern, s)) and m.group(1) != s)
            said = f"file names seem to have a suffix behind the text: {match.string!r} would be {match.group(1)!r}"
            remedy = f"CAPTCHA_LABEL_PATTERN='{pattern}' (label_pattern=r'{pattern}') takes it off"
            findings.append(Finding("warning", "suffixes", said, remedy))
        if _running_numbers(stems):
            said = f"the names are consecutive numbers ({', '.join(stems[:3])}, ...), and so probably not the texts"
            remedy = "name the table (csv, tsv) or list (txt) that holds the texts: CAPTCHA_DATA=FOLDER/labels.csv"
            findings.append(Finding("warning", "running numbers", said, remedy))
    return findings


def _running_numbers(stems: Sequence[str]) -> bool:
    prefix = commonprefix(stems).rstrip("0123456789")
    numbers = [stem[len(prefix) :] for stem in stems]
    if len(stems) < 5 or not all(number.isdecimal() and len(number) < MANY_DIGITS for number in numbers):
        return False
    values = sorted(map(int, numbers))
    return len(set(values)) == len(values) and values[-1] - values[0] < 1.1 * len(values)


def _odd_modes(names: Sequence[str], found: Sequence[Picture]) -> Finding | None:
    modes = Counter(picture.mode for picture in found if not picture.problem)
    odd = {mode for mode, count in modes.items() if count < ODD_SHARE * len(found)}
    files = [(name, picture.mode) for name, picture in zip(names, found, strict=True) if picture.mode in odd]
    said = f"pictures of another mode than {in_numbers(modes, 1).partition(':')[0]}, converted like the others"
    remedy = "look at them: they may come from elsewhere"
    return Finding("warning", "stray modes", said, remedy, files) if files else None


def _rare(texts: Sequence[str], rare: int) -> Finding | None:
    few = {character: count for character, count in ranked("".join(texts)).items() if count < rare}
    if not few:
        return None
    said = f"characters that occur fewer than {rare} times can hardly be learned: {in_numbers(few, 40)}"
    remedy = (
        "add captchas that hold them; weights that know them help too: CAPTCHA_RECIPE=conv_ctc CAPTCHA_PRETRAINED=1"
    )
    return Finding("warning", "rare characters", said, remedy)


def _odd_kinds(names: Sequence[str], texts: Sequence[str]) -> list[Finding]:
    findings = []
    for kind, (belongs, remedy) in KINDS.items():
        marked = ["".join(sorted({c for c in text if belongs(c)})) for text in texts]
        files = [(name, f"has {m!r} in {text!r}") for name, text, m in zip(names, texts, marked, strict=True) if m]
        if 0 < len(files) < ODD_SHARE * len(texts):
            said = f"{kind} stand in {len(files)} of {len(texts)} texts only"
            findings.append(Finding("warning", "stray characters", said, remedy, files))
    return findings


def _twice(names: Sequence[str], texts: Sequence[str], found: Sequence[Picture]) -> list[Finding]:
    findings, seen = [], set()
    for about, keys in (
        ("identical files", [p.content for p in found]),
        ("identical pictures", [p.look for p in found]),
    ):
        groups = [group for group in _same(keys) if not found[group[0]].problem and tuple(group) not in seen]
        seen |= set(map(tuple, groups))
        files = [(names[i], f"as {names[g[0]]}") for g in groups for i in g[1:] if texts[i] == texts[g[0]]]
        if files:
            said = "they weigh twice, and stand on one side of the split"
            findings.append(Finding("warning", about, said, "remove all but one of each", files))
    return findings


def _both_cases(texts: Sequence[str]) -> Finding | None:
    letters = set("".join(texts))
    both = "".join(sorted(c for c in letters if c.islower() and c.upper() != c and c.upper() in letters))
    said = f"letters that stand in the texts as capitals and as small ones: {both}"
    remedy = "read the figures with case folded, too; CAPTCHA_CASE=lower (case='lower') if case does not count"
    return Finding("warning", "both cases", said, remedy) if both else None


def _case_only(names: Sequence[str], texts: Sequence[str]) -> Finding | None:
    spellings: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        spellings[text.casefold()].add(text)
    files = [(name, text) for name, text in zip(names, texts, strict=True) if len(spellings[text.casefold()]) > 1]
    said = "texts that differ from another in case alone; they stand on one side of the split"
    remedy = "CAPTCHA_CASE=lower (case='lower') if case does not count"
    return Finding("warning", "case", said, remedy, files) if files else None


def _frames(names: Sequence[str], found: Sequence[Picture]) -> Finding | None:
    files = [(name, f"{p.frames} frames") for name, p in zip(names, found, strict=True) if p.frames > 1]
    return Finding("warning", "animations", "only the first frame is read", "", files) if files else None
