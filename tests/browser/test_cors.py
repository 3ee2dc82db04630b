"""Web pages of other origins as clients of the server, in a real browser."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.client import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, Client, message, not_active
from harness.server import ServerProcess
from tests.browser.conftest import TIMEOUT_MS, Tab

RESET = "/_controls/reset"
FAULTS = "/_controls/faults"
ASSIGN = "/orders/assign?order_id=order-1&executor_id=executor-1&zone_id=zone-1"
ACQUIRE = "/order/acquire?executor_id=executor-1"
CANCEL = "/order/cancel?order_id=order-1"
FAIL = {"Prefer": "code=500"}

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>A client</title>
<link rel="icon" href="data:,">
<script>
async function call(url, options, timeout) {
  try {
    const response = await fetch(url, {...options, signal: AbortSignal.timeout(timeout)});
    const body = response.type === "opaque" ? {} : await response.json();
    return {
      status: response.status,
      message: body.message ?? null,
      applied: response.headers.get("Preference-Applied"),
      error: null
    };
  } catch (error) {
    return {status: null, message: null, applied: null, error: error.name};
  }
}
</script>
<form method="post"></form>
</html>
"""


class Handler(BaseHTTPRequestHandler):
    """Answers every request with the page."""

    # A browser may open a connection that it does not use.
    timeout = 10

    def do_GET(self) -> None:
        """Send the page."""
        body = PAGE.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@dataclass(frozen=True)
class Outcome:
    """The result of a call from the page: what the page can read of the response, or the name of the error."""

    sent: str
    status: int | None
    message: str | None
    applied: str | None
    error: str | None


class ClientPage:
    """The page in a browser tab, with the server that it calls."""

    def __init__(self, tab: Tab, origin: str, url: str) -> None:
        """Open the page of `origin`, which calls the server at `url`."""
        self.tab = tab
        self.origin = origin
        self._url = url
        tab.page.goto(origin)

    def call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        mode: str = "cors",
        body: str | None = None,
    ) -> Outcome:
        """Call the server with `fetch`."""
        options = {"method": method, "headers": dict(headers or {}), "mode": mode, "body": body}
        result = self.tab.page.evaluate(
            "([url, options, timeout]) => call(url, options, timeout)", [f"{self._url}{path}", options, TIMEOUT_MS]
        )
        return Outcome(sent=f"{method} {path} {options}", **result)

    def submit_form(self, path: str) -> int:
        """Send a form to a path of the server, which CORS does not prevent; return the status."""
        with self.tab.page.expect_navigation() as navigation:
            self.tab.page.evaluate(
                "url => { document.forms[0].action = url; document.forms[0].submit(); }", f"{self._url}{path}"
            )
        return navigation.value.status

    def expect_refused(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> None:
        """Call the server, and check that CORS keeps the page from reading the response."""
        with self.tab.page.expect_console_message(lambda message: "blocked by CORS policy" in message.text):
            outcome = self.call(method, path, headers)
            assert outcome.error == "TypeError", outcome


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """The origin of a web server that serves the page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def options(request: pytest.FixtureRequest, origin: str) -> Sequence[str]:
    """The options from the test's parameters. ORIGIN stands for the page's origin."""
    return [option.replace("ORIGIN", origin) for option in request.param.split()]


@pytest.fixture
def page(tab: Tab, origin: str, server: ServerProcess) -> ClientPage:
    """The page, open in a tab."""
    return ClientPage(tab, origin, server.url)


def with_options(*options: str) -> pytest.MarkDecorator:
    """Run a test once for each of `options`, on a server with these options."""
    return pytest.mark.parametrize("options", options, indirect=True, ids=lambda given: given or "none")


OTHER = "--cors-origin http://127.0.0.1:1 --cors-origin http://localhost:3000"


@with_options("--cors-origin ORIGIN", "--cors-origin *", f"{OTHER} --cors-origin ORIGIN")
def test_an_allowed_page_calls_the_operations(page: ClientPage, client: Client) -> None:
    """A page of an allowed origin calls the operations, also with its own headers, and reads the responses."""
    for method, path, headers, status, text in [
        ("GET", ACQUIRE, {}, 200, NO_ORDERS),
        ("PUT", ASSIGN, {}, 200, CREATED),
        ("PUT", ASSIGN, {}, 400, ALREADY_EXISTS),
        # Without the controls, `Prefer` has no effect.
        ("GET", ACQUIRE, FAIL, 200, ACQUIRED),
        ("POST", CANCEL, {}, 200, CANCELED),
        ("POST", CANCEL, FAIL, 200, not_active("order-1")),
    ]:
        outcome = page.call(method, path, headers)
        assert (outcome.status, outcome.message, outcome.applied) == (status, text, None), outcome
    acquired = client.acquire("executor-1")
    assert message(acquired) == NO_ORDERS, acquired.text
    assert len(page.tab.errors()) == 1, f"not only the error for the 400: {page.tab.errors()}"


@with_options("--controls --cors-origin ORIGIN", "--controls --cors-origin * --cors-origin ORIGIN")
def test_an_allowed_page_uses_the_controls(page: ClientPage, client: Client) -> None:
    """A page of an allowed origin requests faults by `Prefer` and in the queue, and resets the server."""
    for method, path in [("PUT", ASSIGN), ("GET", ACQUIRE), ("POST", CANCEL)]:
        outcome = page.call(method, path, FAIL)
        assert (outcome.status, outcome.message, outcome.applied) == (500, "Unknown error", "code=500"), outcome
    outcome = page.call("PUT", ASSIGN, {"Prefer": "drop"})
    assert outcome.error == "TypeError", outcome
    outcome = page.call("PUT", ASSIGN, {"Prefer": "wait=0.01"})
    assert (outcome.status, outcome.message, outcome.applied) == (200, CREATED, "wait=0.01"), outcome
    json_body = {"Content-Type": "application/json"}
    outcome = page.call("POST", FAULTS, json_body, body='{"operation": "acquire_order", "kind": "error"}')
    assert outcome.status == 201, outcome
    outcome = page.call("GET", ACQUIRE)
    assert (outcome.status, outcome.message, outcome.applied) == (500, "Unknown error", None), outcome
    outcome = page.call("POST", RESET)
    assert (outcome.status, outcome.message) == (200, "Successfully reset"), outcome
    assigned = client.assign("order-1", "executor-1")
    assert message(assigned) == CREATED, f"after {outcome}, an assign was answered {assigned.text}"


@with_options("--controls --cors-origin ORIGIN")
def test_a_browser_does_not_hide_a_dropped_request(page: ClientPage, client: Client) -> None:
    """The page sees each dropped request as an error: the browser does not repeat the request by itself."""
    for count, when in enumerate(("before", "after"), 1):
        page.call("GET", ACQUIRE)
        fault = f'{{"operation": "assign_order", "kind": "drop", "when": "{when}"}}'
        assert page.call("POST", FAULTS, body=fault).status == 201
        outcome = page.call("PUT", ASSIGN)
        assert outcome.error == "TypeError", f"{when}: {outcome}"
        journal = client.http.get("/_controls/requests", params={"operation": "assign_order"}).json()
        assert [request["outcome"] for request in journal["requests"]] == ["dropped"] * count, journal
    outcome = page.call("PUT", ASSIGN)
    assert (outcome.status, outcome.message) == (400, ALREADY_EXISTS), outcome


@with_options("", OTHER)
def test_other_pages_cannot_call_the_operations(page: ClientPage, client: Client) -> None:
    """A page of another origin can read no response, and its requests that need a preflight are not executed."""
    page.expect_refused("PUT", ASSIGN)
    assigned = client.assign("order-1", "executor-1")
    assert message(assigned) == CREATED, f"the page's PUT was executed: {assigned.text}"
    # A POST with this header needs a preflight.
    page.expect_refused("POST", CANCEL, FAIL)
    acquired = client.acquire("executor-1")
    assert message(acquired) == ACQUIRED, f"the page's POST was executed: {acquired.text}"
    page.expect_refused("GET", ACQUIRE)
    page.expect_refused("GET", ACQUIRE, FAIL)
    page.expect_refused("POST", CANCEL)


@with_options("--controls", f"--controls {OTHER}")
def test_other_pages_cannot_use_the_controls(page: ClientPage, server: ServerProcess, client: Client) -> None:
    """The server answers 403 to a page of another origin, even if its browser sends the POST without a preflight."""
    assert message(client.assign("order-1", "executor-1")) == CREATED
    page.expect_refused("POST", RESET)
    for path, body in [(RESET, None), (FAULTS, '{"operation": "assign_order", "kind": "error"}')]:
        outcome = page.call("POST", path, mode="no-cors", body=body)
        # The page cannot see that the request was refused.
        assert (outcome.status, outcome.error) == (0, None), outcome
    status = page.submit_form(RESET)
    assert status == 403, f"a form to {RESET}: {status}"
    faults = client.http.get(FAULTS)
    assert faults.json() == {"faults": []}, faults.text
    assigned = client.assign("order-1", "executor-1")
    assert message(assigned) == ALREADY_EXISTS, f"the page has reset the server: {assigned.text}"
    server.stop()
    arrived = [line for line in server.log().splitlines() if " POST /_controls/" in line]
    assert len(arrived) == 4, arrived
    assert all(" 403 " in line for line in arrived), arrived
