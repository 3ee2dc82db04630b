"""The pytest plugin: its fixtures, the journal in the report of a failed test, and other projects' packages."""

import re
import sys
from pathlib import Path

import pytest

from harness.processes import clean_environment, run
from harness.server import TIMEOUT_S

PLUGIN_TEST = """
import urllib.error, urllib.request
import pytest

URLS = set()

def assign(url, order):
    request = urllib.request.Request(f"{url}/orders/assign?order_id={order}&executor_id=e&zone_id=z", method="PUT")
    return urllib.request.urlopen(request).status

@pytest.mark.parametrize("n", range(10))
def test_a_test_begins_with_an_empty_service(orders_url, orders_server, n):
    assert orders_server.url == orders_url
    assert (orders_server.orders(), orders_server.faults(), orders_server.requests()) == ([], [], [])
    assert assign(orders_url, "always-the-same") == 200
    orders_server.fail_next("assign_order", count=5)
    with pytest.raises(urllib.error.HTTPError, match="500"):
        assign(orders_url, "other")
    assert len(orders_server.requests()) == 2
    URLS.add(orders_url)
    assert len(URLS) == 1
"""

LIGHT_TEST = """
import sys

def test_the_server_is_not_loaded(request):
    assert request.config.pluginmanager.hasplugin("orders")
    loaded = {"tornado", "peewee", "yaml", "jsonschema", "orders.testing", "orders.http.app"} & set(sys.modules)
    assert not loaded, loaded
"""


NAMESAKE_TEST = """
import orders

def test_the_package_is_the_project_s_own(request):
    assert request.config.pluginmanager.hasplugin("orders")
    assert orders.OURS
"""


FAILING_TESTS = """
import urllib.error, urllib.request
import pytest

def acquire(url, executor_id="1", times=1):
    for _ in range(times):
        try:
            urllib.request.urlopen(f"{url}/order/acquire?executor_id={executor_id}").close()
        except (urllib.error.HTTPError, ConnectionError) as error:
            getattr(error, "close", int)()

def test_faults_and_a_mistake(orders_url, orders_server):
    orders_server.fail_next("*", status=502, body="empty")
    orders_server.fail_next("*", "drop", when="after")
    acquire(orders_url, times=3)
    acquire(orders_url, executor_id="")
    assert False

def test_many_requests(orders_url):
    acquire(orders_url, times=25)
    assert False

@pytest.fixture
def broken(orders_url):
    acquire(orders_url, executor_id="in-a-fixture")
    assert False

def test_a_broken_fixture(broken):
    pass

def test_without_requests(orders_url):
    assert False

def test_a_stopped_server(orders_url, orders_server):
    orders_server.stop()
    try:
        assert False
    finally:
        acquire(orders_url)

def test_without_the_server():
    assert False

@pytest.mark.xfail
def test_that_is_expected_to_fail(orders_server):
    orders_server.start()
    assert False

def test_that_passes(orders_url):
    acquire(orders_url, executor_id="passed")
"""
NO_ORDERS_LINE = ': 200 {"message": "There are no orders assigned to you"}'
MISSING = '{"message": "Missing parameters, please provide executor_id"}'
JOURNALS = {
    "test_faults_and_a_mistake": [
        '1. GET /order/acquire?executor_id=1: 502 "" [fault: error before]',
        "2. GET /order/acquire?executor_id=1: dropped [fault: drop after]",
        f"3. GET /order/acquire?executor_id=1{NO_ORDERS_LINE}",
        f"4. GET /order/acquire?executor_id=: 400 {MISSING} [mistake]",
    ],
    "test_many_requests": [
        "(5 earlier requests)",
        *(f"{n}. GET /order/acquire?executor_id=1{NO_ORDERS_LINE}" for n in range(6, 26)),
    ],
    "ERROR at setup of test_a_broken_fixture": [f"1. GET /order/acquire?executor_id=in-a-fixture{NO_ORDERS_LINE}"],
    "test_without_requests": ["no requests"],
    "test_a_stopped_server": ["not available: the server is not running"],
    "test_without_the_server": [],
}


def foreign_pytest(directory: Path, *options: str, expected: int = 0) -> str:
    """Run pytest in another project, where this one is only a plugin; return the output."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-W", "error"]
    ended = run([*command, *options, directory], timeout_s=TIMEOUT_S, cwd=directory, env=clean_environment())
    assert ended.returncode == expected, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_the_fixtures_reset_the_server_for_each_test(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Each test finds an empty service, and each process has one server, with one process or several."""
    (tmp_path / "test_plugin.py").write_text(PLUGIN_TEST)
    assert "10 passed" in foreign_pytest(tmp_path, *options)


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_the_report_of_a_failed_test_has_the_journal(tmp_path: Path, options: tuple[str, ...]) -> None:
    """It has the last 20 requests if the test uses the server, in one process or several. Other reports have none."""
    (tmp_path / "test_failing.py").write_text(FAILING_TESTS)
    output = foreign_pytest(tmp_path, *options, expected=1)
    _, *parts = re.split(r"^_{3,} (.*) _{3,}$", output.partition("= short test summary")[0], flags=re.MULTILINE)
    journals = {}
    for name, report in zip(parts[::2], parts[1::2], strict=True):
        section = re.search(r"^-+ Journal of orders_server -+\n((?:[^=].*\n)*)", report, re.MULTILINE)
        journals[name] = section[1].splitlines() if section else []
    assert journals == JOURNALS, output


def test_the_plugin_costs_nothing_until_it_is_used(tmp_path: Path) -> None:
    """A project that does not use the fixtures does not load the server."""
    (tmp_path / "test_light.py").write_text(LIGHT_TEST)
    assert "1 passed" in foreign_pytest(tmp_path)


def test_a_project_may_have_a_package_of_the_same_name(tmp_path: Path) -> None:
    """Tests of a project that has its own package `orders` import that one."""
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "__init__.py").write_text("OURS = True\n")
    (tmp_path / "test_namesake.py").write_text(NAMESAKE_TEST)
    assert "1 passed" in foreign_pytest(tmp_path)


def test_a_package_of_the_same_name_hides_the_server(tmp_path: Path) -> None:
    """A project that has its own `orders` and uses the fixtures is told why that does not work."""
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "__init__.py").write_text("")
    (tmp_path / "test_namesake.py").write_text("def test(orders_url):\n    pass\n")
    assert "this project has a package `orders` of its own" in foreign_pytest(tmp_path, expected=1)
