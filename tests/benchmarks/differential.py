"""Whether MLflow ever opens a location that the repair did not see: `python -m tests.benchmarks.differential --count 400`.

Seeded random spellings of `meta.yaml`, and random schemas and rows of databases, each with a location outside of the record.
The repair either refuses the store, or reports what no dashboard opens, or it has seen every location that MLflow's own
classes then give: FileStore for files, its mapped tables for databases.
"""

import argparse
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mlruns_tools.asked import check_places
from mlruns_tools.fixed_paths import COLUMNS, DATABASE, Refused, fix_paths
from tests.benchmarks.attacks import make_good
from tests.hostile import EXPERIMENT, OLD, RUN, experiment_meta, file_store, run_meta

EVIL = "/etc"
FORMS: dict[str, Callable[[random.Random, str, str], str]] = {  # of one key and its value
    "plain": lambda dice, key, value: f"{key}: {value}\n",
    "single quotes": lambda dice, key, value: f"{key}: '{value}'\n",
    "double quotes": lambda dice, key, value: f'{key}: "{value}"\n',
    "escapes": lambda dice, key, value: f'{key}: "{escaped(dice, value)}"\n',
    "broken over lines": lambda dice, key, value: f'{key}: "{value[:2]}\\\n  {value[2:]}"\n',
    "folded": lambda dice, key, value: f"{key}: {dice.choice(['>-', '>', '>+', '>2-'])}\n  {value}\n",
    "literal": lambda dice, key, value: f"{key}: {dice.choice(['|-', '|', '|+'])}\n  {value}\n",
    "anchor": lambda dice, key, value: f"{key}: &a {value}\n",
    "alias": lambda dice, key, value: f"zz: &a {value}\n{key}: *a\n",
    "tag": lambda dice, key, value: f"{key}: {dice.choice(['!!str', '!', '!<tag:yaml.org,2002:str>'])} {value}\n",
    "complex key": lambda dice, key, value: f"? {key}\n: {value}\n",
    "quoted key": lambda dice, key, value: f'"{key}": {value}\n',
    "escaped key": lambda dice, key, value: f'"{escaped(dice, key)}": {value}\n',
    "space before the colon": lambda dice, key, value: f"{key} : {value}\n",
    "tab": lambda dice, key, value: f"{key}:\t{value}\n",
    "next line": lambda dice, key, value: f"{key}:\n  {value}\n",
    "comment": lambda dice, key, value: f"{key}: {value} # as before\n",
    "merge": lambda dice, key, value: f"<<: {{{key}: {value}}}\n",
    "merge of an anchor": lambda dice, key, value: f"zz: &b {{{key}: {value}}}\n<<: *b\n",
    "good, then evil": lambda dice, key, value: f"{key}: {OLD}/x\n{key}: {value}\n",
    "evil, then good": lambda dice, key, value: f"{key}: {value}\n{key}: {OLD}/{EXPERIMENT}/{RUN}/artifacts\n",
    "another case": lambda dice, key, value: f"{key.upper()}: {value}\n{key}: {OLD}/{EXPERIMENT}/{RUN}/artifacts\n",
    "a list": lambda dice, key, value: f"{key}: [{value}]\n",
    "a line in a value": lambda dice, key, value: f"aa: 'x\n\n  {key}: {value}'\n{key}: {OLD}/x\n",
    "a value that ends a text": lambda dice, key, value: f"aa: |\n  x\n{key}: {value}\n",
    "nothing": lambda dice, key, value: f"{key}:\n",
}
AROUND: dict[str, Callable[[random.Random, str], bytes]] = {  # of the whole text
    "as it is": lambda dice, text: text.encode(),
    "as it is, again": lambda dice, text: text.encode(),
    "BOM": lambda dice, text: b"\xef\xbb\xbf" + text.encode(),
    "line ends": lambda dice, text: text.replace("\n", dice.choice(["\r\n", "\r", "\x85", "\u2028"])).encode(),
    "one line end": lambda dice, text: text.replace(
        "\n", dice.choice(["\r", "\x85", "\u2029"]), dice.randint(1, 3)
    ).encode(),
    "UTF-16": lambda dice, text: text.encode("utf-16"),
    "flow": lambda dice, text: b"{" + ", ".join(text.strip().splitlines()).encode() + b"}\n",
    "documents": lambda dice, text: (
        dice.choice(["---\n{}", "--- \n{}...\n", "%YAML 1.1\n---\n{}"]).format(text).encode()
    ),
    "two documents": lambda dice, text: f"{text}---\n{text}".encode(),
    "indented": lambda dice, text: "".join(f"  {line}\n" for line in text.splitlines()).encode(),
    "a comment": lambda dice, text: f"# {dice.random()}\n{text}".encode(),
    "a character": lambda dice, text: with_character(dice, text).encode("utf-8", "surrogateescape"),
}


def escaped(dice: random.Random, text: str) -> str:
    forms = ["{}", "\\x{:02x}", "\\u{:04x}", "\\U{:08x}"]
    return "".join(dice.choice([c, dice.choice(forms[1:]).format(ord(c))]) for c in text)


def with_character(dice: random.Random, text: str) -> str:
    place = dice.randrange(len(text))
    return text[:place] + dice.choice("\t\0\x0b\xa0\ufeff\u200b\x1b:#'\"\\\n &*!|>%@`-?{}[],") + text[place:]


def spelled(dice: random.Random, folder: Path) -> tuple[Path, str]:
    """A file store with one `meta.yaml` spelled at random; what was done."""
    mlruns = file_store(folder / "mlruns")
    form, around = dice.choice(list(FORMS)), dice.choice(list(AROUND))
    run = dice.random() < 0.7
    key, text = ("artifact_uri", run_meta("x")) if run else ("artifact_location", experiment_meta("x"))
    value = dice.choice([EVIL, f"file://{EVIL}", f"{OLD}/../../..{EVIL}", f"{OLD}/{EXPERIMENT}/{RUN}/artifacts"])
    line, rest = FORMS[form](dice, key, value), text.partition("\n")[2]
    lines = [line, rest] if dice.random() < 0.7 else [rest, line]
    file = mlruns / EXPERIMENT / (f"{RUN}/meta.yaml" if run else "meta.yaml")
    file.write_bytes(AROUND[around](dice, "".join(lines)))
    return mlruns, f"{form}, {around}"


def statements(dice: random.Random) -> list[str]:
    """SQL by which MLflow might read another location than stands there."""
    _, table, column, key, *_ = dice.choice([each for each in COLUMNS if each[1] not in ("workspaces", "trace_tags")])
    other = dice.choice(["tags", "params", "metrics", "experiment_tags", "alembic_version"])
    case = dice.choice([str.upper, str.title])
    location = dice.choice([EVIL, f"file://{EVIL}", f"FILE://{EVIL}", f" {EVIL}", f"{EVIL}/" + "x" * 5000, "", "."])
    literal = dice.choice(
        [f"'{location}'", f"CAST('{location}' AS BLOB)", f"'{location}' || char(0)", "7", "NULL", "x'2fff'"]
    )
    wild = [
        [f"ALTER TABLE {table} RENAME TO t0", f"CREATE VIEW {table} AS SELECT * FROM t0"],
        [f"CREATE VIEW v AS SELECT {literal} AS x"],
        [f"ALTER TABLE {table} RENAME TO t0", f'ALTER TABLE t0 RENAME TO "{case(table)}"'],
        [f'ALTER TABLE {table} RENAME COLUMN {column} TO "{case(column)}"'],
        [f"CREATE TRIGGER t AFTER {dice.choice(['INSERT', 'UPDATE', 'DELETE'])} ON {other} BEGIN SELECT 1; END"],
        [f"CREATE TRIGGER t AFTER UPDATE ON {table} BEGIN UPDATE {table} SET {column} = {literal}; END"],
        [f"CREATE INDEX i ON {table} ({dice.choice(['upper', 'length', 'hex'])}({column}))"],
        [f"CREATE INDEX i ON {table} ({column} COLLATE NOCASE)"],
        [f"CREATE INDEX i ON {table} ({column}) WHERE {column} LIKE '/%'"],
        ["CREATE VIRTUAL TABLE f USING fts5(x)"],
        [f"ALTER TABLE {table} ADD COLUMN z TEXT GENERATED ALWAYS AS ({literal}) VIRTUAL"],
        [
            f"ALTER TABLE {table} RENAME COLUMN {column} TO was",
            f"ALTER TABLE {table} ADD COLUMN {column} TEXT AS ({literal})",
        ],
        [f"ALTER TABLE {table} ADD COLUMN z TEXT DEFAULT (hex(zeroblob(9)))"],
        [f"ALTER TABLE {other} ADD COLUMN z TEXT CHECK (length(z) < 9)"],
        [f"UPDATE {table} SET {column} = {literal}"],
        [f"UPDATE {table} SET {column} = {literal} WHERE {key} IN (SELECT {key} FROM {table} LIMIT 1)"],
        [f"UPDATE runs SET artifact_uri = {literal}, lifecycle_stage = 'deleted'"],
        ["PRAGMA user_version = 7", "PRAGMA application_id = 7"],
        ["CREATE TABLE mine (x TEXT)"],
        [
            "PRAGMA writable_schema = ON",
            f"UPDATE sqlite_master SET sql = replace(sql, '{column}', '{column} COLLATE NOCASE') WHERE name = '{table}'",
        ],
        [
            "PRAGMA writable_schema = ON",
            f"UPDATE sqlite_master SET sql = replace(sql, 'CREATE TABLE', 'CREATE /**/ TABLE') WHERE name = '{table}'",
        ],
        [
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'tags')"
            " WHERE name = 'params'",
        ],
        rebuilt(table, dice.choice(["ON CONFLICT REPLACE", "ON CONFLICT IGNORE"]), column),
        rebuilt(table, dice.choice(["COLLATE NOCASE", "DEFAULT (upper('x'))", "CHECK (random() IS NOT NULL)"]), column),
    ]
    return dice.choice(wild)


def rebuilt(table: str, how: str, column: str) -> list[str]:
    """The table made anew by a simple statement, its column with a clause."""
    clause = f"UNIQUE {how}" if how.startswith("ON") else how
    names = {"runs": "run_uuid", "experiments": "experiment_id", "logged_models": "model_id", "model_versions": "name"}
    more = ", ".join(f"{name} TEXT" for name in (names[table], "lifecycle_stage", "experiment_id") if name != column)
    more = ", ".join(dict.fromkeys(more.split(", ")))
    return [f"DROP TABLE {table}", f"CREATE TABLE {table} ({more}, {column} TEXT {clause})"]


def stored(dice: random.Random, folder: Path, good: Path) -> tuple[Path, str]:
    """A database of MLflow's changed at random; what was done."""
    mlruns = folder / "mlruns"
    shutil.copytree(good, mlruns)
    done = []
    with closing(sqlite3.connect(mlruns / DATABASE, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for statement in (each for _ in range(dice.choice([1, 1, 2])) for each in statements(dice)):
            try:
                connection.execute(statement)
                done.append(statement[:150])
            except sqlite3.Error:  # the one before stands in its way
                pass
    return mlruns, "; ".join(done)


def outcome(mlruns: Path) -> tuple[str, str]:
    """(what became of it, the fault if there is one)."""
    before = {path: path.read_bytes() for path in mlruns.rglob("*") if path.is_file()}
    try:
        fix_paths(mlruns)
    except Refused:
        after = {path: path.read_bytes() for path in mlruns.rglob("*") if path.is_file()}
        return "refused", "" if after == before else "changed and refused"
    report = fix_paths(mlruns, dry_run=True)
    store = mlruns / DATABASE if (mlruns / DATABASE).exists() else mlruns
    if report.exposed:
        return "reported, not opened", ""
    try:
        check_places(store, report)
    except Refused as error:
        return "MLflow cannot read it", "" if "cannot read" in str(error) else str(error)
    unused = " ".join(report.notes)  # of an experiment without runs nothing is opened
    outside = [place for place in report.seen if place and not place.startswith(mlruns.as_uri())]
    outside = [place for place in outside if repr(place) not in unused]
    return "the same is seen", f"{outside} passes" if [place for place in outside if Path(place).exists()] else ""


def compare(count: int, seed: int, folder: Path) -> tuple[dict[str, Counter[str]], list[str]]:
    """({kind: how many of each outcome}, the faults)."""
    good, faults = make_good(folder / "good") / "mlruns", []
    fix_paths(good)
    found: dict[str, Counter[str]] = {"meta.yaml": Counter(), "database": Counter()}
    for number in range(count):
        dice, work = random.Random(seed + number), folder / str(number)
        kind = list(found)[number % 2]
        mlruns, what = spelled(dice, work) if kind == "meta.yaml" else stored(dice, work, good)
        became, fault = outcome(mlruns)
        found[kind][became] += 1
        faults += [f"seed {seed + number}, {what}: {fault}"] if fault else []
        shutil.rmtree(work)
    return found, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found, faults = compare(given.count, given.seed, Path(folder))
    outcomes = ["refused", "reported, not opened", "MLflow cannot read it", "the same is seen"]
    print(f"| kind | tried | {' | '.join(outcomes)} |\n|{'---|' * (len(outcomes) + 2)}")
    for kind, counts in found.items():
        print(f"| {kind} | {sum(counts.values())} | {' | '.join(str(counts[each]) for each in outcomes)} |")
    print("\n".join(faults) or "No location outside passes.")


if __name__ == "__main__":
    main()
