"""Fixtures: a browser without internet access, and a tab that records its requests and errors."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

from harness.programs import require_program
from harness.server import ServerProcess

TIMEOUT_MS = 120_000
ARGUMENTS = [
    # Chromium reaches 127.0.0.1 only, so a page that needs another host fails.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--no-proxy-server",
]


class Tab:
    """A page of the browser, the URLs that it has requested, and the errors that it has reported so far."""

    def __init__(self, page: Page) -> None:
        """Start to record the requests and errors of `page`."""
        self.page = page
        self.requested: list[str] = []
        self.reported: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        # The context sees the requests of the page and of its workers.
        page.context.on("request", lambda request: self.requested.append(request.url))
        page.on("console", self._record_message)
        page.on("pageerror", self._record_error)

    def _record_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.reported.append(f"console: {message.text} ({message.location['url']})")

    def _record_error(self, error: Error) -> None:
        self.reported.append(f"page: {error.stack or error.message}")

    def errors(self) -> list[str]:
        """Return all errors so far, from the console and from the page's scripts."""
        # The browser reports events in order: after this call, all earlier errors are recorded.
        self.page.evaluate("0")
        return list(self.reported)

    def requested_elsewhere(self, url: str) -> list[str]:
        """Return the requested URLs that do not belong to the server at `url`."""
        return [requested for requested in self.requested if not requested.startswith(f"{url}/")]


# The scope is not "session": while Playwright runs, no other test on this thread can run an event loop.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, which reaches 127.0.0.1 only."""
    program = require_program("chromium")
    with sync_playwright() as playwright:
        # Chromium's sandbox does not start for root, and the browser opens only the project's own pages.
        browser = playwright.chromium.launch(
            executable_path=program, args=ARGUMENTS, chromium_sandbox=False, timeout=TIMEOUT_MS
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """A new tab, which shares nothing with the tabs of other tests."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield Tab(context.new_page())
    context.close()


@pytest.fixture
def options() -> Sequence[str]:
    """The options of the test's server. A test may be parametrized with others."""
    return ()


@pytest.fixture
def server(options: Sequence[str], database: Path) -> Iterator[ServerProcess]:
    """The test's own server."""
    with ServerProcess(*options, database=database) as server:
        yield server
