"""A client that is a web page of another origin, as the browser lets it call the service."""

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
class Answer:
    """What came of a call in the page: what it can read of the answer, or the name of the error."""

    sent: str
    status: int | None
    message: str | None
    applied: str | None
    error: str | None


class ClientPage:
    """The page, open in the browser, with the service that it calls."""

    def __init__(self, tab: Tab, origin: str, url: str) -> None:
        """Open the page of `origin`; it calls the server at `url`."""
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
    ) -> Answer:
        """Call the server with `fetch`."""
        options = {"method": method, "headers": dict(headers or {}), "mode": mode, "body": body}
        outcome = self.tab.page.evaluate(
            "([url, options, timeout]) => call(url, options, timeout)", [f"{self._url}{path}", options, TIMEOUT_MS]
        )
        return Answer(sent=f"{method} {path} {options}", **outcome)

    def submit_form(self, path: str) -> int:
        """Go to a path of the server with a form, as a page can without any script's leave; return the status."""
        with self.tab.page.expect_navigation() as navigation:
            self.tab.page.evaluate(
                "url => { document.forms[0].action = url; document.forms[0].submit(); }", f"{self._url}{path}"
            )
        return navigation.value.status

    def expect_refused(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> None:
        """Call the server; fail if the page can read anything, or if it was not CORS that prevented it."""
        with self.tab.page.expect_console_message(lambda message: "blocked by CORS policy" in message.text):
            answer = self.call(method, path, headers)
            assert answer.error == "TypeError", answer


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """The origin of a web server with the page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def options(request: pytest.FixtureRequest, origin: str) -> Sequence[str]:
    """The options that the test is parametrized with; ORIGIN in them stands for the page's."""
    return [option.replace("ORIGIN", origin) for option in request.param.split()]


@pytest.fixture
def page(tab: Tab, origin: str, service: ServerProcess) -> ClientPage:
    """The page, open."""
    return ClientPage(tab, origin, service.url)


def parametrized(*options: str) -> pytest.MarkDecorator:
    """Run a test on a server with each of `options`."""
    return pytest.mark.parametrize("options", options, indirect=True, ids=lambda given: given or "none")


OTHER = "--cors-origin http://127.0.0.1:1 --cors-origin http://localhost:3000"


@parametrized("--cors-origin ORIGIN", "--cors-origin *", f"{OTHER} --cors-origin ORIGIN")
def test_an_allowed_page_calls_the_operations(page: ClientPage, client: Client) -> None:
    """A page of an allowed origin calls the operations, with headers of its own too, and reads the answers."""
    for method, path, headers, status, text in [
        ("GET", ACQUIRE, {}, 200, NO_ORDERS),
        ("PUT", ASSIGN, {}, 200, CREATED),
        ("PUT", ASSIGN, {}, 400, ALREADY_EXISTS),
        # Without the controls the preference has no effect, and nor has asking for it.
        ("GET", ACQUIRE, FAIL, 200, ACQUIRED),
        ("POST", CANCEL, {}, 200, CANCELED),
        ("POST", CANCEL, FAIL, 200, not_active("order-1")),
    ]:
        answer = page.call(method, path, headers)
        assert (answer.status, answer.message, answer.applied) == (status, text, None), answer
    acquired = client.acquire("executor-1")
    assert message(acquired) == NO_ORDERS, acquired.text
    assert len(page.tab.errors()) == 1, f"more than that of the 400: {page.tab.errors()}"


@parametrized("--controls --cors-origin ORIGIN", "--controls --cors-origin * --cors-origin ORIGIN")
def test_an_allowed_page_uses_the_controls(page: ClientPage, client: Client) -> None:
    """A page of an allowed origin asks for faults in its requests and in the queue, and resets."""
    for method, path in [("PUT", ASSIGN), ("GET", ACQUIRE), ("POST", CANCEL)]:
        answer = page.call(method, path, FAIL)
        assert (answer.status, answer.message, answer.applied) == (500, "Unknown error", "code=500"), answer
    answer = page.call("PUT", ASSIGN, {"Prefer": "drop"})
    assert answer.error == "TypeError", answer
    answer = page.call("PUT", ASSIGN, {"Prefer": "wait=0.01"})
    assert (answer.status, answer.message, answer.applied) == (200, CREATED, "wait=0.01"), answer
    json_body = {"Content-Type": "application/json"}
    answer = page.call("POST", FAULTS, json_body, body='{"operation": "acquire_order", "kind": "error"}')
    assert answer.status == 201, answer
    answer = page.call("GET", ACQUIRE)
    assert (answer.status, answer.message, answer.applied) == (500, "Unknown error", None), answer
    answer = page.call("POST", RESET)
    assert (answer.status, answer.message) == (200, "Successfully reset"), answer
    assigned = client.assign("order-1", "executor-1")
    assert message(assigned) == CREATED, f"after {answer}, the order is assigned again: {assigned.text}"


@parametrized("--controls --cors-origin ORIGIN")
def test_a_browser_does_not_hide_a_dropped_request(page: ClientPage, client: Client) -> None:
    """Each drop is seen by the page, once: the browser has no kept connection on which it would repeat the request."""
    for count, when in enumerate(("before", "after"), 1):
        page.call("GET", ACQUIRE)
        fault = f'{{"operation": "assign_order", "kind": "drop", "when": "{when}"}}'
        assert page.call("POST", FAULTS, body=fault).status == 201
        answer = page.call("PUT", ASSIGN)
        assert answer.error == "TypeError", f"{when}: {answer}"
        journal = client.http.get("/_controls/requests", params={"operation": "assign_order"}).json()
        assert [request["outcome"] for request in journal["requests"]] == ["dropped"] * count, journal
    answer = page.call("PUT", ASSIGN)
    assert (answer.status, answer.message) == (400, ALREADY_EXISTS), answer


@parametrized("", OTHER)
def test_other_pages_cannot_call_the_operations(page: ClientPage, client: Client) -> None:
    """A page of an origin that is not allowed reads no answer, and what needs a preflight is not executed (PUT)."""
    page.expect_refused("PUT", ASSIGN)
    assigned = client.assign("order-1", "executor-1")
    assert message(assigned) == CREATED, f"the page's PUT has been executed: then {assigned.text}"
    # The header makes it a request that needs a preflight.
    page.expect_refused("POST", CANCEL, FAIL)
    acquired = client.acquire("executor-1")
    assert message(acquired) == ACQUIRED, f"the page's POST has been executed: then {acquired.text}"
    page.expect_refused("GET", ACQUIRE)
    page.expect_refused("GET", ACQUIRE, FAIL)
    page.expect_refused("POST", CANCEL)


@parametrized("--controls", f"--controls {OTHER}")
def test_other_pages_cannot_use_the_controls(page: ClientPage, service: ServerProcess, client: Client) -> None:
    """A page of an origin that is not allowed changes nothing, although its browser sends a simple POST: it is 403."""
    assert message(client.assign("order-1", "executor-1")) == CREATED
    page.expect_refused("POST", RESET)
    for path, body in [(RESET, None), (FAULTS, '{"operation": "assign_order", "kind": "error"}')]:
        answer = page.call("POST", path, mode="no-cors", body=body)
        # The page cannot even tell that it was refused.
        assert (answer.status, answer.error) == (0, None), answer
    status = page.submit_form(RESET)
    assert status == 403, f"a form to {RESET}: {status}"
    faults = client.http.get(FAULTS)
    assert faults.json() == {"faults": []}, faults.text
    assigned = client.assign("order-1", "executor-1")
    assert message(assigned) == ALREADY_EXISTS, f"the page has reset the server: then {assigned.text}"
    service.stop()
    arrived = [line for line in service.log().splitlines() if " POST /_controls/" in line]
    assert len(arrived) == 4, arrived
    assert all(" 403 " in line for line in arrived), arrived
