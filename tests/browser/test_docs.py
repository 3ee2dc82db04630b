"""The documentation page in a browser, with and without the test controls."""

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
SELECTOR_LABEL = "Select a definition"
with_controls = pytest.mark.parametrize("options", [["--controls"]], ids=["controls"])
expect.set_options(timeout=TIMEOUT_MS)


@dataclass(frozen=True)
class Shown:
    """What the page shows after a call was tried out."""

    curl: str
    status: str
    body: Any


class Docs:
    """The page `/docs`, with the actions of its reader."""

    def __init__(self, tab: Tab, url: str) -> None:
        """Open the page at `url` and wait until it shows calls."""
        self._page = tab.page
        self._page.goto(url)
        try:
            expect(self._page.locator(".opblock").first).to_be_visible()
        except AssertionError as error:
            raise AssertionError(f"{url} requested {tab.requested} and reported {tab.reported}") from error

    @property
    def heading(self) -> Locator:
        """The title of the definition, without its version."""
        return self._page.locator(".info h1, .info h2").first

    @property
    def definition_selector(self) -> Locator:
        """The list from which the reader selects a definition."""
        return self._page.get_by_label(SELECTOR_LABEL)

    def expect_calls(self, calls: list[str]) -> None:
        """Wait until the page shows exactly these calls, each a method and a path."""
        summaries = self._page.locator(".opblock-summary-control")
        expect(summaries.locator(".opblock-summary-method")).to_have_text([call.split()[0] for call in calls])
        paths = summaries.locator(".opblock-summary-path")
        for position, call in enumerate(calls):
            expect(paths.nth(position)).to_be_visible()
            # The text of the path has invisible characters at possible line breaks.
            expect(paths.nth(position)).to_have_attribute("data-path", call.split()[1])

    def try_out(self, operation_id: str, body: Any = None, **fields: str) -> Shown:
        """Open a call, fill in its fields and its body, and execute it; return what the page shows."""
        call = self._page.locator(f".opblock[id$=-{operation_id}]")
        call.locator(".opblock-summary-control").click()
        for name, value in fields.items():
            call.locator(f"[data-param-name={name}] input").fill(value)
        if body is not None:
            call.locator("textarea").fill(json.dumps(body))
        call.get_by_role("button", name="Execute").click()
        response = call.locator(".live-responses-table tr.response")
        return Shown(
            curl=call.locator(".curl-command code").inner_text(),
            status=response.locator(".response-col_status").inner_text().strip(),
            body=json.loads(response.locator(".highlight-code code").inner_text()),
        )


@pytest.fixture
def docs(tab: Tab, server: ServerProcess) -> Docs:
    """The page of the test's server."""
    return Docs(tab, f"{server.url}/docs")


@pytest.fixture(scope="module")
def controls() -> Any:
    """The definition of the controls."""
    return yaml.safe_load((Path(orders.__file__).parent / "controls" / "controls.yaml").read_bytes())


def calls_of(definition: Any) -> list[str]:
    """Return the calls of a definition, each as a method and a path."""
    return [
        f"{method.upper()} {path}" for path, item in definition["paths"].items() for method in item if method in METHODS
    ]


@pytest.mark.parametrize("url", ["http://orders.example/", "http://192.0.2.1/"], ids=["name", "address"])
def test_the_browser_has_no_internet(tab: Tab, url: str) -> None:
    """The browser of these tests reaches no other host, neither by name nor by address."""
    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        tab.page.goto(url)


@pytest.mark.parametrize("options", [[], ["--controls"]], ids=["no controls", "controls"])
def test_the_page_needs_no_internet(tab: Tab, docs: Docs, server: ServerProcess, contract: Contract) -> None:
    """The page shows the three operations, reports no error, and sends no request to another server."""
    expect(tab.page).to_have_title("Orders service")
    expect(docs.heading).to_contain_text("Orders service")
    calls = [f"{operation.method} {operation.path}" for operation in contract.operations]
    assert len(calls) == 3
    docs.expect_calls(calls)
    assert tab.errors() == []
    assert f"{server.url}/openapi.json" in tab.requested
    assert tab.requested_elsewhere(server.url) == [], tab.requested


@pytest.mark.parametrize("width, height", [(1280, 800), (390, 844)], ids=["desktop", "phone"])
@pytest.mark.parametrize("options", [[], ["--controls"]], ids=["no controls", "controls"])
def test_the_operations_are_on_the_first_screen(tab: Tab, docs: Docs, width: int, height: int) -> None:
    """On a desktop and on a phone, the reader sees the three operations without scrolling."""
    tab.page.set_viewport_size({"width": width, "height": height})
    calls = tab.page.locator(".opblock")
    expect(calls).to_have_count(3)
    for call in calls.all():
        expect(call).to_be_in_viewport(ratio=1)


# Returns the texts whose contrast with the background is less than 4.5 : 1 (WCAG 2.2, 1.4.3).
FAINT_TEXTS = """() => {
    const parse = colour => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return [r, g, b, a] };
    const blend = (above, below) => below.map((value, i) => above[i] * above[3] + value * (1 - above[3]));
    const luminance = colour => colour
        .map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
    const background = element => element === null ? [255, 255, 255]
        : blend(parse(getComputedStyle(element).backgroundColor), background(element.parentElement));
    const contrast = element => {
        const behind = background(element);
        const lights = [blend(parse(getComputedStyle(element).color), behind), behind].map(luminance);
        return (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    };
    return [...document.querySelectorAll("#swagger-ui *:not(option)")]
        .filter(element => element.checkVisibility())
        .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
        .filter(element => contrast(element) < 4.5)
        .map(element => element.outerHTML);
}"""


@with_controls
@pytest.mark.parametrize("definition", ["Orders service", "Test controls"])
def test_all_of_the_page_can_be_read_on_a_phone(tab: Tab, docs: Docs, definition: str) -> None:
    """With everything unfolded, all text stands out from its background, and the page scrolls only up and down."""
    tab.page.set_viewport_size({"width": 390, "height": 844})
    docs.definition_selector.select_option(definition)
    expect(docs.heading).to_contain_text(definition)
    for fold in tab.page.locator(".info summary, .opblock-summary-control").all():
        fold.click()
    expect(tab.page.locator(".opblock-body")).to_have_count(tab.page.locator(".opblock").count())
    assert tab.page.evaluate(FAINT_TEXTS) == []
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_rules_unfold(tab: Tab, docs: Docs) -> None:
    """The rules of the API are folded. A click on a section's name shows the section, with its tables and lists."""
    sections = tab.page.locator(".info details")
    names = ["Lifecycle", "Repeats, and lost answers", "Requests", "Answers", "Decisions"]
    expect(sections.locator("summary")).to_have_text(names)
    for section in sections.all():
        content = section.locator("table, ul").first
        expect(content).to_be_hidden()
        section.locator("summary").click()
        expect(content).to_be_visible()


def test_operations_are_tried_out(tab: Tab, docs: Docs, server: ServerProcess, client: Client) -> None:
    """A reader assigns and acquires an order on the page, and other clients see the same order."""
    ids = {"order_id": "Ordre n° 1/2", "executor_id": "executor & co", "zone_id": "zone-2"}
    assigned = docs.try_out("assign_order", **ids)
    assert (assigned.status, assigned.body) == ("200", {"message": CREATED}), assigned
    acquired = docs.try_out("acquire_order", executor_id=ids["executor_id"])
    assert (acquired.status, acquired.body["message"]) == ("200", ACQUIRED), acquired
    profile = acquired.body["order_profile"]
    assert {name: profile[name] for name in ids} == ids, acquired
    again = client.acquire(ids["executor_id"])
    assert again.json() == acquired.body, f"the page shows {acquired.body}, but a client gets {again.text}"
    repeated = client.assign(**ids)
    assert message(repeated) == ALREADY_EXISTS, repeated.text
    assert tab.errors() == []
    assert tab.requested_elsewhere(server.url) == [], tab.requested


def test_there_are_no_controls(tab: Tab, docs: Docs, client: Client, controls: Any) -> None:
    """Without `--controls`, the page offers no second definition, and every call of the controls is answered 404."""
    expect(docs.heading).to_contain_text("Orders service")
    expect(tab.page.locator(".topbar")).to_have_count(0)
    expect(tab.page.get_by_text(SELECTOR_LABEL)).to_have_count(0)
    for call in ["GET /_controls/openapi.json", "GET /_controls/openapi.yaml", *calls_of(controls)]:
        response = client.http.request(*call.split())
        assert response.status_code == 404, f"{call}: {response.status_code} {response.text}"


@with_controls
def test_the_controls_are_a_second_definition(
    tab: Tab, docs: Docs, server: ServerProcess, contract: Contract, controls: Any
) -> None:
    """With `--controls`, a reader can select the definition of the controls, and then the contract again."""
    expect(docs.definition_selector.locator("option")).to_have_text(["Orders service", "Test controls"])
    docs.definition_selector.select_option("Test controls")
    expect(docs.heading).to_contain_text(controls["info"]["title"])
    docs.expect_calls(calls_of(controls))
    docs.definition_selector.select_option("Orders service")
    expect(docs.heading).not_to_contain_text(controls["info"]["title"])
    docs.expect_calls([f"{operation.method} {operation.path}" for operation in contract.operations])
    assert tab.errors() == []
    assert tab.requested_elsewhere(server.url) == [], tab.requested


@with_controls
def test_controls_are_tried_out(tab: Tab, docs: Docs, server: ServerProcess, client: Client) -> None:
    """A reader adds a fault on the page; a reset on the page removes the fault and all orders."""
    assert message(client.assign("order-1", "executor-1")) == CREATED
    docs.definition_selector.select_option("Test controls")
    fault = {"operation": "cancel_order", "kind": "error", "when": "after", "status": 400, "body": "json"}
    fault |= {"delay_ms": 5, "count": 2}
    added = docs.try_out("add_fault", fault)
    assert (added.status, added.body) == ("201", fault), added
    assert faults(client).json() == {"faults": [fault]}, f"after {added}: {faults(client).text}"
    reset = docs.try_out("reset")
    assert reset.status == "200", reset
    assert faults(client).json() == {"faults": []}, f"after {reset}: {faults(client).text}"
    assigned = client.assign("order-1", "executor-1")
    assert message(assigned) == CREATED, f"after {reset}, an assign was answered {assigned.text}"
    assert tab.errors() == []
    assert tab.requested_elsewhere(server.url) == [], tab.requested


@pytest.mark.parametrize("options", [[], ["--controls"]], ids=["no controls", "controls"])
def test_a_link_cannot_load_another_definition(tab: Tab, server: ServerProcess) -> None:
    """The page ignores definitions and settings of other servers in its query."""
    query = "url=http://orders.example/openapi.json&configUrl=http://orders.example/settings.json"
    docs = Docs(tab, f"{server.url}/docs?{query}")
    expect(docs.heading).to_contain_text("Orders service")
    assert tab.errors() == []
    assert tab.requested_elsewhere(server.url) == [], tab.requested


def faults(client: Client) -> httpx.Response:
    """Request the faults that are still in the queue."""
    return client.http.get("/_controls/faults")
