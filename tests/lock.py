"""The packages of requirements.txt with all that they need, as they are installed: what requirements.lock holds.

    python -m tests.lock > requirements.lock     # in a new environment, on Linux, after `pip install -r requirements.txt`

A lock has versions, no hashes: PyTorch's wheels differ by platform and by GPU.
"""

from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers.config import PROJECT

LOCK = PROJECT / "requirements.lock"
HEADING = f"# {__doc__.splitlines()[2].partition('#')[0].strip()}"


def required() -> list[Requirement]:
    """The lines of requirements.txt."""
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def closure() -> dict[str, list[Requirement]]:
    """{package: what is required of it}, of everything that requirements.txt brings here. Raises PackageNotFoundError."""
    ahead, seen, found = required(), set(), {}
    while ahead:
        need = ahead.pop()
        name = canonicalize_name(need.name)
        if (name, str(need)) not in seen:
            seen.add((name, str(need)))
            found.setdefault(name, []).append(need)
            ahead += needs(need)
    return found


def needs(need: Requirement) -> list[Requirement]:
    """What an installed package needs, and its extras that were asked for."""
    lines = map(Requirement, metadata.requires(need.name) or [])
    return [
        line
        for line in lines
        if not line.marker or any(line.marker.evaluate({"extra": extra}) for extra in need.extras or {""})
    ]


def locked() -> dict[str, str]:
    """{package: version} of requirements.lock. Raises ValueError for a line that is no `name==version`."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    if wrong := ["==".join(pair) for pair in pairs if len(pair) != 2]:
        raise ValueError(f"{LOCK.name}: {wrong[0]!r} is not name==version")
    return dict(pairs)


def main() -> None:
    versions = {name: metadata.version(name).partition("+")[0] for name in closure()}
    print("\n".join([HEADING, *(f"{name}=={versions[name]}" for name in sorted(versions))]))


if __name__ == "__main__":
    main()
