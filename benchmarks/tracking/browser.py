"""A window of the system's Chromium on an MLflow server."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Page, Response, StorageState, sync_playwright

WIDTH, HEIGHT = 1600, 900
PATIENCE_MS = 120_000
QUIET_MS = 1500
"""How long charts and pictures take to settle after they are there."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REMEMBERED = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
}
"""What a browser remembers of someone who chose "Model training" and closed MLflow's assistant."""
EXPECTED = ("users/current", "path=MLmodel")
"""Requests that MLflow answers with an error here: there are no accounts, and a bundle is not a model of MLflow's."""
NOTICE = "[role=alert]:visible, [class*=notification-error]:visible"


@dataclass(frozen=True)
class View:
    """One page, and what a person must see there."""

    name: str
    route: str
    texts: tuple[str, ...]
    search: str | None = None
    """What is typed into the search for charts."""
    charts: int = 0
    """Least number of drawn lines, one for each run in each chart."""
    picture: bool = False
    """Whether a picture is shown."""


@dataclass
class Window:
    """A browser window, with what went wrong in it."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)

    def show(self, view: View) -> None:
        """Open a page and wait until all of it is there.

        Raises:
            playwright.sync_api.Error: something did not appear.
        """
        self.page.goto("about:blank")  # the pages differ behind the # alone
        self.page.goto(f"{self.address}/#/{view.route}", wait_until="domcontentloaded")
        if view.search is not None:
            self.page.get_by_placeholder("Search metric charts").fill(view.search)
            self.page.keyboard.press("Escape")
        for text in view.texts:
            self.page.get_by_text(text).and_(self.page.locator(":visible")).first.wait_for()
        if view.charts:
            self.page.locator(".main-svg .trace").nth(view.charts - 1).wait_for(state="attached")
        if view.picture:
            self.page.locator("img[src^='blob:'], img[src*='get-artifact']").first.wait_for()
        self.page.wait_for_timeout(QUIET_MS)
        self.problems += [f"{view.name}: {notice}" for notice in self.page.locator(NOTICE).all_inner_texts()]

    def save(self, file: Path) -> None:
        """Keep what is to be seen as a picture."""
        self.page.screenshot(path=file)

    def _heard(self, response: Response) -> None:
        if response.status >= 400 and not any(part in response.url for part in EXPECTED):
            self.problems.append(f"{response.status} {response.url}")


def find_browser() -> str | None:
    """Return the browser's program; None where none is installed."""
    return next((found for name in BROWSERS if (found := shutil.which(name)) is not None), None)


@contextmanager
def window(address: str) -> Iterator[Window]:
    """Open a window without a screen.

    Raises:
        RuntimeError: no browser is installed.
    """
    browser = find_browser()
    if browser is None:
        raise RuntimeError("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        # the sandbox needs rights that a container rarely has; the only pages are our own server's
        running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        memory: StorageState = {
            "cookies": [],
            "origins": [
                {
                    "origin": address,
                    "localStorage": [{"name": name, "value": value} for name, value in REMEMBERED.items()],
                }
            ],
        }
        context = running.new_context(viewport={"width": WIDTH, "height": HEIGHT}, storage_state=memory)
        context.set_default_timeout(PATIENCE_MS)
        shown = Window(context.new_page(), address)
        shown.page.on("response", shown._heard)
        shown.page.on("pageerror", lambda error: shown.problems.append(str(error)))
        try:
            yield shown
        finally:
            running.close()
