"""The container image: built and run without a daemon, on a base from a registry or from Debian's packages."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from harness.client import Client, message
from harness.container import ROOT, TIMEOUT_S, USER_ID, Image, built_image
from harness.postgresql import free_port
from harness.processes import end_group

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image."""
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("buildah's chroot isolation needs root")
    with built_image(tmp_path_factory.mktemp("image")) as image:
        yield image


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A folder that belongs to the user of the image."""
    os.chown(tmp_path, USER_ID, USER_ID)
    return tmp_path


@contextmanager
def serving(image: Image, volume: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the server in the image, as its configuration says and with more options; yield the process and the URL."""
    command = [*image.config()["Cmd"], *options]
    with image.start(command, volume, ORDERS_PORT=str(free_port())) as process:
        try:
            assert process.stdout
            ready = process.stdout.readline()
            assert ready.startswith("orders listening on http://0.0.0.0:"), ready + process.communicate(timeout=10)[1]
            yield process, ready.split()[-1].replace("0.0.0.0", "127.0.0.1")
        finally:
            end_group(process.pid)


def server_in(process: subprocess.Popen[str]) -> psutil.Process:
    """Return the server that runs in the image."""
    (server,) = (
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.cmdline()[0].startswith("/opt/orders/")
    )
    return server


def test_the_image_is_small(image: Image) -> None:
    """The image adds less than 100 MB to its base."""
    ended = image.run(["du", "--summarize", "--bytes", "/opt/orders"])
    assert ended.returncode == 0 and int(ended.stdout.split()[0]) < 100e6, ended.stdout + ended.stderr


def test_the_image_says_how_it_runs(image: Image) -> None:
    """Without arguments, the image runs the server, in exec form, as a user of its own and with a volume."""
    config = image.config()
    assert (config["Cmd"], config["Entrypoint"], config["StopSignal"]) == (["orders", "serve"], [], "SIGTERM")
    assert (config["User"], list(config["Volumes"])) == ("orders", ["/var/lib/orders"])


def test_the_server_stops_gracefully_and_its_orders_stay(image: Image, volume: Path) -> None:
    """The server runs as its user, is healthy, logs on standard error, and ends with 0 after SIGTERM.

    The next container with the same volume has its orders. It may have the test controls, too.
    """
    _, *check = image.config()["Healthcheck"]["Test"]
    with serving(image, volume) as (process, url), Client(url) as client:
        assert message(client.assign("order-1", "executor-1")) == "Successfully created"
        assert client.http.get("/_controls/faults").status_code == 404
        port = url.rpartition(":")[2]
        healthy = image.run(check, ORDERS_PORT=port)
        assert healthy.returncode == 0, healthy.stderr
        server = server_in(process)
        assert server.uids().real == USER_ID, server
        server.send_signal(signal.SIGTERM)
        output, log = process.communicate(timeout=60)
        assert process.returncode == 0 and not output, output + log
        assert "PUT /orders/assign?order_id=order-1" in log, log
        ill = image.run(check, ORDERS_PORT=port)
        assert ill.returncode != 0, ill.stdout
    with serving(image, volume, "--controls", "--expose-controls") as (_, url), Client(url) as client:
        assert client.acquire("executor-1").json()["order_profile"]["order_id"] == "order-1"
        assert client.http.get("/_controls/faults").status_code == 200


def test_the_image_runs_the_contract_suite(image: Image, volume: Path) -> None:
    """The suite in the image checks a server, without arguments for the user or the folder."""
    with serving(image, volume) as (_, url):
        ended = image.run(["orders-contract", url, "--clause", "ASSIGN-1"])
    assert ended.returncode == 0 and ": conforms" in ended.stdout, ended.stdout + ended.stderr


def test_the_compose_file_is_valid() -> None:
    """compose.yaml follows the schema of the Compose specification."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
