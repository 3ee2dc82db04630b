"""The documentation page as its reader sees it, with and without the test controls."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Error, Locator, expect

import orders
from harness.client import ACQUIRED, ALREADY_EXISTS, CREATED, Client, message
from harness.server import ServerProcess
from orders.contract import Contract
from tests.browser.conftest import TIMEOUT_MS, Tab

METHODS = ("get", "put", "post", "delete")
CHOICE = "Select a definition"
with_controls = pytest.mark.parametrize("options", [["--controls"]], ids=["controls"])
expect.set_options(timeout=TIMEOUT_MS)


@dataclass(frozen=True)
class Shown:
    """What the page shows of a call that its reader tried out."""

    curl: str
    status: str
    body: Any


class Docs:
    """The page `/docs`, by what its reader does on it."""

    def __init__(self, tab: Tab, url: str) -> None:
        """Open the page at `url`, and wait until it shows calls."""
        self._page = tab.page
        self._page.goto(url)
        try:
            expect(self._page.locator(".opblock").first).to_be_visible()
        except AssertionError as error:
            raise AssertionError(f"{url} asked for {tab.requested}, with the errors {tab.noted}") from error

    @property
    def heading(self) -> Locator:
        """The title of the definition, without its version."""
        return self._page.locator(".info h1, .info h2").first

    @property
    def choice(self) -> Locator:
        """Where a definition is chosen."""
        return self._page.get_by_label(CHOICE)

    def expect_calls(self, calls: list[str]) -> None:
        """Wait until these calls are shown, by method and path, and no others."""
        summaries = self._page.locator(".opblock-summary-control")
        expect(summaries.locator(".opblock-summary-method")).to_have_text([call.split()[0] for call in calls])
        paths = summaries.locator(".opblock-summary-path")
        for position, call in enumerate(calls):
            expect(paths.nth(position)).to_be_visible()
            # Its text has invisible characters where it may be broken.
            expect(paths.nth(position)).to_have_attribute("data-path", call.split()[1])

    def try_out(self, operation_id: str, body: Any = None, **fields: str) -> Shown:
        """Open a call, fill in its fields and its body, execute it, and return what is shown then."""
        call = self._page.locator(f".opblock[id$=-{operation_id}]")
        call.locator(".opblock-summary-control").click()
        for name, value in fields.items():
            call.locator(f"[data-param-name={name}] input").fill(value)
        if body is not None:
            call.locator("textarea").fill(json.dumps(body))
        call.get_by_role("button", name="Execute").click()
        answer = call.locator(".live-responses-table tr.response")
        return Shown(
            curl=call.locator(".curl-command code").inner_text(),
            status=answer.locator(".response-col_status").inner_text().strip(),
            body=json.loads(answer.locator(".highlight-code code").inner_text()),
        )


@pytest.fixture
def docs(tab: Tab, service: ServerProcess) -> Docs:
    """The page of the test's server."""
    return Docs(tab, f"{service.url}/docs")


@pytest.fixture(scope="module")
def controls() -> Any:
    """The definition of the controls."""
    return yaml.safe_load((Path(orders.__file__).parent / "controls" / "controls.yaml").read_bytes())


def calls_of(definition: Any) -> list[str]:
    """Return the calls of a definition, by method and path."""
    return [
        f"{method.upper()} {path}" for path, item in definition["paths"].items() for method in item if method in METHODS
    ]


@pytest.mark.parametrize("url", ["http://orders.example/", "http://192.0.2.1/"], ids=["name", "address"])
def test_the_browser_is_without_internet(tab: Tab, url: str) -> None:
    """The browser of these tests reaches no other host, so a page that works in it needs none."""
    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        tab.page.goto(url)


@pytest.mark.parametrize("options", [[], ["--controls"]], ids=["no controls", "controls"])
def test_the_page_needs_no_internet(tab: Tab, docs: Docs, service: ServerProcess, contract: Contract) -> None:
    """The page opens with the three operations, without an error, and asks no other server for anything."""
    expect(tab.page).to_have_title("Orders service")
    expect(docs.heading).to_contain_text("Orders service")
    calls = [f"{operation.method} {operation.path}" for operation in contract.operations]
    assert len(calls) == 3
    docs.expect_calls(calls)
    assert tab.errors() == []
    assert f"{service.url}/openapi.json" in tab.requested
    assert tab.requested_elsewhere(service.url) == [], tab.requested


def test_operations_are_tried_out(tab: Tab, docs: Docs, service: ServerProcess, client: Client) -> None:
    """A reader assigns an order on the page and acquires it, and so it is for every other client."""
    ids = {"order_id": "Ordre n° 1/2", "executor_id": "executor & co", "zone_id": "zone-2"}
    assigned = docs.try_out("assign_order", **ids)
    assert (assigned.status, assigned.body) == ("200", {"message": CREATED}), assigned
    acquired = docs.try_out("acquire_order", executor_id=ids["executor_id"])
    assert (acquired.status, acquired.body["message"]) == ("200", ACQUIRED), acquired
    profile = acquired.body["order_profile"]
    assert {name: profile[name] for name in ids} == ids, acquired
    again = client.acquire(ids["executor_id"])
    assert again.json() == acquired.body, f"the page shows {acquired.body}, a client is answered {again.text}"
    repeated = client.assign(**ids)
    assert message(repeated) == ALREADY_EXISTS, repeated.text
    assert tab.errors() == []
    assert tab.requested_elsewhere(service.url) == [], tab.requested


def test_there_are_no_controls(tab: Tab, docs: Docs, client: Client, controls: Any) -> None:
    """Without `--controls` the page offers no second definition, and all that the controls have is 404."""
    expect(docs.heading).to_contain_text("Orders service")
    expect(tab.page.locator(".topbar")).to_have_count(0)
    expect(tab.page.get_by_text(CHOICE)).to_have_count(0)
    for call in ["GET /_controls/openapi.json", "GET /_controls/openapi.yaml", *calls_of(controls)]:
        response = client.http.request(*call.split())
        assert response.status_code == 404, f"{call}: {response.status_code} {response.text}"


@with_controls
def test_the_controls_are_a_second_definition(
    tab: Tab, docs: Docs, service: ServerProcess, contract: Contract, controls: Any
) -> None:
    """With `--controls` a reader chooses between two definitions, finds the controls' calls, and comes back."""
    expect(docs.choice.locator("option")).to_have_text(["Orders service", "Test controls"])
    docs.choice.select_option("Test controls")
    expect(docs.heading).to_contain_text(controls["info"]["title"])
    docs.expect_calls(calls_of(controls))
    docs.choice.select_option("Orders service")
    expect(docs.heading).not_to_contain_text(controls["info"]["title"])
    docs.expect_calls([f"{operation.method} {operation.path}" for operation in contract.operations])
    assert tab.errors() == []
    assert tab.requested_elsewhere(service.url) == [], tab.requested


@with_controls
def test_controls_are_tried_out(tab: Tab, docs: Docs, service: ServerProcess, client: Client) -> None:
    """A reader adds a fault on the page, which then waits for its request, and resets: fault and order are gone."""
    assert message(client.assign("order-1", "executor-1")) == CREATED
    docs.choice.select_option("Test controls")
    fault = {"operation": "cancel_order", "kind": "error", "when": "after", "status": 400, "delay_ms": 5, "count": 2}
    added = docs.try_out("add_fault", fault)
    assert (added.status, added.body) == ("201", fault), added
    assert faults(client).json() == {"faults": [fault]}, f"after {added}: {faults(client).text}"
    reset = docs.try_out("reset")
    assert reset.status == "200", reset
    assert faults(client).json() == {"faults": []}, f"after {reset}: {faults(client).text}"
    assigned = client.assign("order-1", "executor-1")
    assert message(assigned) == CREATED, f"after {reset}, the order is assigned again: {assigned.text}"
    assert tab.errors() == []
    assert tab.requested_elsewhere(service.url) == [], tab.requested


@pytest.mark.parametrize("options", [[], ["--controls"]], ids=["no controls", "controls"])
def test_a_link_cannot_bring_another_definition(tab: Tab, service: ServerProcess) -> None:
    """A link to the page with another server's definition or settings in it opens the page as it is."""
    query = "url=http://orders.example/openapi.json&configUrl=http://orders.example/settings.json"
    docs = Docs(tab, f"{service.url}/docs?{query}")
    expect(docs.heading).to_contain_text("Orders service")
    assert tab.errors() == []
    assert tab.requested_elsewhere(service.url) == [], tab.requested


def faults(client: Client) -> httpx.Response:
    """Ask for the faults that are still to happen."""
    return client.http.get("/_controls/faults")
