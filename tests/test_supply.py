"""What is installed and what is carried along: the lock, and the licences of NOTICE."""

import re
import sys
from importlib import metadata

import pytest
from packaging.utils import canonicalize_name

from helpers.config import PROJECT
from helpers.kaggle.packages import pins
from tests.lock import HEADING, LOCK, closure, locked, required


def test_the_lock_keeps_every_bound() -> None:
    versions = locked()
    for need in required():
        assert need.specifier.contains(versions[canonicalize_name(need.name)]), need


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need packages besides, which the lock leaves open")
def test_the_lock_has_all_that_the_requirements_bring_and_fits_together() -> None:
    versions, found = locked(), closure()
    assert not found.keys() - versions.keys()
    for name, needs in found.items():
        for need in needs:
            assert need.specifier.contains(versions[name], prereleases=True), (name, versions[name], str(need))


def test_the_lock_is_versions_alone() -> None:
    first, *lines = LOCK.read_text(encoding="utf-8").splitlines()
    assert first == HEADING and lines == sorted(set(lines), key=lambda line: line.split("==")[0])
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line  # no URL, no option, no build of one machine


@pytest.mark.parametrize("script", ["notebooks/train_ctc.py", "-m pytest"])
def test_the_readme_installs_from_the_lock(script: str) -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    command = rf"pip install -r requirements\.txt -c {re.escape(LOCK.name)} && python {re.escape(script)}$"
    assert re.search(command, text, re.MULTILINE)


def test_notice_names_the_licence_of_each_wheel() -> None:
    rows = re.findall(
        r"^\| ([\w.-]+) \| ([\w.-]+) \|", (PROJECT / "NOTICE.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    licences = dict(rows)
    assert {line.split("==")[0] for line in pins()} <= licences.keys()
    for line in pins():
        name = line.split("==")[0]
        assert licences[name] == licence(name), name


def licence(package: str) -> str:
    """As the package says it, in SPDX's words."""
    said = metadata.metadata(package)
    apache = "License :: OSI Approved :: Apache Software License" in (said.get_all("Classifier") or [])
    return "Apache-2.0" if apache else said.get("License-Expression") or said.get("License")


def test_what_is_carried_is_what_notice_says() -> None:
    """No other kind of file of others lies in the project: no font, no wheel, no archive, no program."""
    kinds = {path.suffix for path in (PROJECT / "assets").rglob("*") if path.is_file()}
    assert kinds <= {".png", ".pth", ".json"}
    foreign = {".ttf", ".otf", ".woff", ".woff2", ".whl", ".zip", ".gz", ".js", ".so", ".dll", ".exe", ".jar"}
    for folder in ("assets", "helpers", "mlruns_tools", "notebooks", "tests"):
        assert not [path for path in (PROJECT / folder).rglob("*") if path.suffix.lower() in foreign]
