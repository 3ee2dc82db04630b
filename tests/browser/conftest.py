"""Fixtures: a browser without internet, and a page of it that keeps account of what it asks for and complains of."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

from harness.programs import require_program
from harness.server import ServerProcess

TIMEOUT_MS = 30_000
ARGUMENTS = [
    # No name and no address but the servers' own is found, so whatever a page needs from elsewhere is missed.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--no-proxy-server",
]


class Tab:
    """A page of the browser, the URLs that it asked for (`requested`), and its errors as far as known (`noted`)."""

    def __init__(self, page: Page) -> None:
        """Keep account of `page` from now on."""
        self.page = page
        self.requested: list[str] = []
        self.noted: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        # The context's requests are the page's and those of its workers.
        page.context.on("request", lambda request: self.requested.append(request.url))
        page.on("console", self._note_message)
        page.on("pageerror", self._note_error)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.noted.append(f"console: {message.text} ({message.location['url']})")

    def _note_error(self, error: Error) -> None:
        self.noted.append(f"page: {error.stack or error.message}")

    def errors(self) -> list[str]:
        """Return the errors so far, of the console and of the page's scripts."""
        # What the browser has reported before this answer is noted after it.
        self.page.evaluate("0")
        return list(self.noted)

    def requested_elsewhere(self, url: str) -> list[str]:
        """Return what was asked for that is not of the server at `url`."""
        return [requested for requested in self.requested if not requested.startswith(f"{url}/")]


# Not for the session: while Playwright runs, no test on this thread can run an event loop of its own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, which reaches nothing but 127.0.0.1."""
    program = require_program("chromium")
    with sync_playwright() as playwright:
        # Chromium's sandbox does not start for root, and all that runs here is the project's own.
        browser = playwright.chromium.launch(
            executable_path=program, args=ARGUMENTS, chromium_sandbox=False, timeout=TIMEOUT_MS
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """A page that shares nothing with those of other tests."""
    context = browser.new_context()
    yield Tab(context.new_page())
    context.close()


@pytest.fixture
def options() -> Sequence[str]:
    """The options of the test's server: none, unless the test is parametrized with some."""
    return ()


@pytest.fixture
def service(options: Sequence[str], database: Path) -> Iterator[ServerProcess]:
    """A server of the test's own."""
    with ServerProcess(*options, database=database) as service:
        yield service
