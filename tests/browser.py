"""Chromium on the dashboard: what a person sees of a record.

`python -m tests.browser MLRUNS` makes the README's pictures, `assets/metrics.png` and `assets/artifacts.png`, of the
newest run of a real record.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from helpers.config import PROJECT
from mlruns_tools.dashboard import open_dashboard
from mlruns_tools.report import VIEW

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
PATIENCE = 60_000  # milliseconds, for a page to show what is waited for
CHARTS = ".js-plotly-plot:has(path.js-line)"  # with a line, not a bar
NOTHING = "No Artifacts Recorded"


@contextmanager
def chromium_page(url: str) -> Iterator[Page]:
    """A page of Debian's Chromium with a profile of its own, where MLflow's assistant is closed at `url`.

    Raises FileNotFoundError where Chromium is not installed.
    """
    program = shutil.which("chromium")
    if program is None:
        raise FileNotFoundError("no chromium on the PATH: apt-get install chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=program, args=FLAGS.split(), viewport={"width": 1280, "height": 860}
        )
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}/{VIEW}")
        page.get_by_role("button", name="Close", exact=True).click()
        yield page
        browser.close()


def open_tab(page: Page, run_page: str, tab: str) -> None:
    """A tab of a run, such as `model-metrics` or `artifacts/model`, as a new page."""
    page.goto("about:blank")  # or only the part behind the # would change, and nothing be loaded
    page.goto(f"{run_page}/{tab}{VIEW}")


def curves_drawn(page: Page, run_page: str, search: str, expected: int) -> int:
    """How many charts the run's metrics page shows for `search`, once as many as expected have a line."""
    open_tab(page, run_page, "model-metrics")
    page.get_by_placeholder("Search metric charts").fill(search)
    page.locator(CHARTS).nth(expected - 1).wait_for(state="attached")  # a level line has no height to be seen by
    page.wait_for_timeout(1000)  # milliseconds, for charts beyond these
    return page.locator(CHARTS).count()


def shows(page: Page, run_page: str, path: str) -> bool:
    """Whether the Artifacts tab, opened at this path, lists the file; False where it says that there is nothing."""
    open_tab(page, run_page, f"artifacts/{path}")
    name = page.get_by_text(path.rpartition("/")[2], exact=True)
    name.or_(page.get_by_text(NOTHING)).first.wait_for()
    return name.is_visible()


def download(page: Page) -> bytes:
    """The file that the Artifacts tab shows, through its own button."""
    with page.expect_download() as started:
        page.locator("[data-component-id*=artifactview]").click()
    return Path(started.value.path()).read_bytes()


def take_pictures(mlruns: Path, to: Path) -> None:
    """`metrics.png` and `artifacts.png` of the newest run of a record, in the folder `to`."""
    with open_dashboard(mlruns) as dashboard, chromium_page(dashboard.url) as page:
        page.set_viewport_size({"width": 1280, "height": 1000})
        run_page = next(iter(dashboard.run_links().values())).rpartition("/")[0]
        curves_drawn(page, run_page, "^(train_loss|val_)", 4)
        page.screenshot(path=to / "metrics.png")
        assert shows(page, run_page, "model/model_weights.pth"), "the newest run has no weights"
        page.screenshot(path=to / "artifacts.png")


if __name__ == "__main__":
    take_pictures(Path(sys.argv[1]), PROJECT / "assets")
