"""The command: options, environment variables, exit codes, and one clear line for whatever is wrong."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

import orders
from harness.server import ServerProcess, run_orders
from orders import cli
from orders.contract import contract_path
from orders.settings import Settings
from orders.storage.database import DatabaseURL
from tests.storage.test_sqlite import (
    make_a_directory_of_its_lock,
    make_directory,
    make_newer_release,
    make_other_program,
    make_text,
)

Serve = Callable[..., Settings]


def has_ipv6() -> bool:
    """Return whether this machine has the loopback address of IPv6."""
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Run `orders serve` with options and variables, but start no server. Return the server's settings."""

    def serve(*options: str, **variables: str) -> Settings:
        started: list[Settings] = []
        monkeypatch.setattr(cli, "run", started.append)
        result = CliRunner(env=variables).invoke(cli.cli, ["serve", *options], catch_exceptions=False)
        assert (result.exit_code, len(started)) == (0, 1), result.output
        return started[0]

    return serve


def test_the_defaults(serve: Serve) -> None:
    """Without options, the server listens on loopback, on one port, over a file in the current directory."""
    settings = serve()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8080, 1)
    assert (settings.database, settings.database_connections) == (DatabaseURL("sqlite", "orders.db"), 2)
    assert (settings.idle_timeout, settings.access_log, settings.log_level) == (30, True, "info")
    assert (settings.controls, settings.cors_origins) == (False, ())


def test_every_option_is_also_an_environment_variable(serve: Serve) -> None:
    """A variable is the default of its option, and the command line wins; an empty variable is not set."""
    variables = {
        "ORDERS_HOST": "::1",
        "ORDERS_PORT": "1234",
        "ORDERS_WORKERS": "2",
        "ORDERS_DATABASE": "sqlite:////tmp/x.db",
        "ORDERS_DATABASE_CONNECTIONS": "3",
        "ORDERS_IDLE_TIMEOUT": "1.5",
        "ORDERS_ACCESS_LOG": "0",
        "ORDERS_LOG_LEVEL": "ERROR",
    }
    settings = serve(**variables)
    assert (settings.host, settings.port, settings.workers) == ("::1", 1234, 2)
    assert (settings.database, settings.database_connections) == (DatabaseURL("sqlite", "/tmp/x.db"), 3)
    assert (settings.idle_timeout, settings.access_log, settings.log_level) == (1.5, False, "error")
    settings = serve("--port", "99", "--access-log", "--database", "sqlite:///y.db", **variables)
    assert (settings.port, settings.access_log, settings.database) == (99, True, DatabaseURL("sqlite", "y.db"))
    assert serve(ORDERS_PORT="").port == 8080
    assert serve("--port", "99", ORDERS_PORT="http").port == 99


@pytest.mark.parametrize("word", ["1", "true", "yes", "ON", "0", "False", "no", "off"])
def test_a_variable_switches_an_option_on_or_off(serve: Serve, word: str) -> None:
    """Each of the usual words does, in any case."""
    assert serve(ORDERS_CONTROLS=word).controls is (word in ("1", "true", "yes", "ON"))


def test_the_options_for_testing_clients(serve: Serve) -> None:
    """Each is also a variable, and the command line wins, by `--no-controls` too."""
    settings = serve("--controls", "--cors-origin", "http://a:1", "--cors-origin", "https://b.example")
    assert (settings.controls, settings.cors_origins) == (True, ("http://a:1", "https://b.example"))
    variables = {"ORDERS_CONTROLS": "1", "ORDERS_CORS_ORIGIN": "http://a:1, https://b.example *", "ORDERS_HOST": "::1"}
    settings = serve(**variables)
    assert (settings.controls, settings.cors_origins) == (True, ("http://a:1", "https://b.example", "*"))
    settings = serve("--no-controls", "--cors-origin", "*", **variables)
    assert (settings.controls, settings.cors_origins) == (False, ("*",))
    assert serve("--host", "localhost", **variables).controls
    assert serve("--host", "0.0.0.0", "--expose-controls", **variables).controls
    assert serve("--host", "192.0.2.1", ORDERS_CONTROLS="1", ORDERS_EXPOSE_CONTROLS="1").controls


def test_the_version() -> None:
    """`--version` answers on standard output and exits with 0."""
    ended = run_orders("--version")
    assert (ended.code, ended.output, ended.errors) == (0, f"orders {orders.__version__}\n", ""), ended


def test_the_help_fits_a_screen() -> None:
    """`orders serve --help` lists every option on a terminal of 80 by 24, and no value of a variable."""
    variables = {"ORDERS_DATABASE": "postgresql://orders:secret@127.0.0.1/orders", "ORDERS_PORT": "http"}
    ended = run_orders("serve", "--help", environment={**variables, "COLUMNS": "80"})
    assert ended.code == 0 and not ended.errors, ended
    lines = ended.output.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80, lines
    for option in (*Settings.__dataclass_fields__, "no_access_log", "no_controls", "expose_controls"):
        assert f"--{option.replace('_', '-').replace('origins', 'origin')} " in ended.output, option
    assert "secret" not in ended.output, ended


@pytest.mark.parametrize(
    ("arguments", "environment", "complaint"),
    [
        ((), {}, "Missing command. See `orders --help`."),
        (("sevre",), {}, "No such command 'sevre'"),
        (("serve", "--prot", "1"), {}, "--prot"),
        (("serve", "--por", "1"), {}, "--por"),
        (("serve", "8080"), {}, "unexpected extra argument (8080)"),
        (("serve", "--port"), {}, "'--port' requires an argument"),
        (("serve", "--controls=1"), {}, "'--controls' does not take a value"),
        (("serve", "--port", "http"), {}, "'--port': 'http' is not a whole number from 0 to 65535"),
        (("serve", "--port", "65536"), {}, "'--port': '65536' is not"),
        (("serve", "--port", "-1"), {}, "'--port': '-1' is not"),
        (("serve", "--workers", "0"), {}, "'--workers': '0' is not a whole number from 1"),
        (("serve", "--workers", "1.5"), {}, "'--workers': '1.5' is not a whole number"),
        (("serve", "--idle-timeout", "nan"), {}, "'--idle-timeout': 'nan' is not a number from 0.1"),
        (("serve", "--host", ""), {}, "--host is empty"),
        (("serve", "--log-level", "loud"), {}, "'--log-level': 'loud' is not one of 'debug', 'info'"),
        (("serve", "--database", "orders.db"), {}, "'--database': it is not a database URL"),
        (
            ("serve", "--database", "oracle://x"),
            {},
            "'--database': unknown database scheme 'oracle' (known: sqlite, postgresql)",
        ),
        (
            ("serve", "--database", "sqlite:///:memory:", "--workers", "2"),
            {},
            "--workers above 1 needs a database file",
        ),
        (("serve", "--controls", "--workers", "2"), {}, "--controls needs --workers 1"),
        (("serve", "--host", "0.0.0.0"), {"ORDERS_CONTROLS": "1"}, "--controls lets whoever reaches 0.0.0.0 delete"),
        (("serve", "--host", "::", "--controls"), {}, "that is not loopback. To allow it, add --expose-controls"),
        (("serve", "--host", "no.such.host.invalid", "--controls"), {}, "that is not loopback"),
        (("serve", "--expose-controls"), {}, "--expose-controls needs --controls"),
        (("serve", "--no-controls"), {"ORDERS_EXPOSE_CONTROLS": "1"}, "--expose-controls needs --controls"),
        (("serve", "--cors-origin", "localhost:3000"), {}, "'localhost:3000' is not an origin like http://localhost"),
        (("serve", "--cors-origin", "http://localhost:3000/"), {}, "is not an origin"),
        (("serve", "--cors-origin", "HTTP://LOCALHOST"), {}, "is not an origin"),
        (("serve", "--cors-origin", ""), {}, "'' is not an origin"),
        (("serve",), {"ORDERS_CORS_ORIGIN": "http://a http:/b"}, "ORDERS_CORS_ORIGIN: 'http:/b' is not an origin"),
        (("serve",), {"ORDERS_PORT": "http"}, "environment variable ORDERS_PORT: 'http' is not a whole number"),
        (
            ("serve",),
            {"ORDERS_ACCESS_LOG": "maybe"},
            "environment variable ORDERS_ACCESS_LOG: 'maybe' is not a valid boolean",
        ),
        (
            ("serve",),
            {"ORDERS_LOG_LEVEL": "loud"},
            "environment variable ORDERS_LOG_LEVEL: 'loud' is not one of 'debug'",
        ),
    ],
)
def test_bad_options_exit_with_2_and_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    environment: dict[str, str],
    complaint: str,
) -> None:
    """What makes no sense is named in one line, and nothing is created."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(cli, "run", pytest.fail)
    code = cli.main(arguments)
    output, errors = capfd.readouterr()
    assert (code, output) == (2, ""), errors
    assert errors.count("\n") == 1 and complaint in errors, errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [("--database",), (), ("--log-level",), ("--host",)],
    ids=["a URL that is not valid", "a forgotten option", "another option", "a start that fails"],
)
def test_an_error_shows_no_password(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A password in a database URL is in no error, also where the URL is in the wrong place."""
    ended = run_orders("serve", *arguments, "postgresql://orders:se/c@ret@127.0.0.1:x/orders", cwd=tmp_path)
    assert ended.code in (1, 2) and ended.errors.count("\n") == 1, ended
    assert "c@ret" not in ended.errors, ended


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (make_other_program, "belongs to another program"),
        (make_newer_release, "has schema version"),
        (make_text, "file is not a database"),
        (make_directory, "it is a directory"),
        (make_a_directory_of_its_lock, "Is a directory"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_unusable_database_exits_with_1_and_one_line(
    database: Path, make: object, complaint: str, workers: str
) -> None:
    """A database that is not ours is named, and neither changed nor replaced."""
    assert callable(make)
    make(database)
    ended = run_orders("serve", "--port", "0", "--workers", workers, "--database", f"sqlite:///{database}")
    assert ended.code == 1, ended
    assert ended.errors.startswith(f"orders: cannot open database {database}: ") and complaint in ended.errors, ended
    assert ended.errors.count("\n") == 1 and not ended.output, ended


@pytest.mark.parametrize("path", ["/proc/orders.db", "/nowhere/orders.db", "/dev/full/orders.db"])
def test_a_database_that_cannot_be_written_exits_with_1_and_one_line(path: str) -> None:
    """A path where no file can be made is named."""
    ended = run_orders("serve", "--port", "0", "--database", f"sqlite:///{path}")
    assert ended.code == 1 and ended.errors.startswith(f"orders: cannot open database {path}: "), ended
    assert ended.errors.count("\n") == 1 and not ended.output, ended


@pytest.mark.parametrize(
    ("host", "complaint"), [("192.0.2.1", "Cannot assign requested address"), ("no.such.host.invalid", "")]
)
def test_an_address_that_is_not_here_exits_with_1_and_one_line(database: Path, host: str, complaint: str) -> None:
    """An address to which the server cannot bind is named, and no database is created."""
    ended = run_orders("serve", "--host", host, "--database", f"sqlite:///{database}")
    assert ended.code == 1 and ended.errors.startswith(f"orders: cannot listen on {host}:8080: {complaint}"), ended
    assert ended.errors.count("\n") == 1 and not ended.output, ended
    assert not database.exists()


def test_a_taken_port_exits_with_1_and_one_line(database: Path) -> None:
    """A port on which another program listens is named, and no database is created."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run_orders("serve", "--port", str(port), "--database", f"sqlite:///{database}")
    assert (ended.code, ended.errors) == (1, f"orders: cannot listen on 127.0.0.1:{port}: Address already in use\n"), (
        ended
    )
    assert not database.exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("operationId: cancel_order\n", "operationId: archive_order\n"), "operations: ['assign_order', 'acq"),
        (
            ("        - $ref: '#/components/parameters/zone_id'\n", ""),
            "assign_order: parameters: ['order_id', 'executor_id'] in the contract",
        ),
        (("openapi: 3.1.0\n", "openapi: [3.1.0\n"), "is not YAML"),
        (("maxLength: 255\n", "maxLength: many\n"), "does not have the form of a contract"),
    ],
)
def test_a_broken_contract_exits_with_1_and_one_line(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    """A contract that does not fit the code, or is broken, stops the server before it creates anything."""
    shutil.copytree(Path(orders.__file__).parent, tmp_path / "orders")
    contract = contract_path().read_text()
    assert change[0] in contract
    (tmp_path / "openapi.yaml").write_text(contract.replace(*change))
    (tmp_path / "orders" / "openapi.yaml").unlink(missing_ok=True)
    ended = run_orders("serve", "--port", "0", cwd=tmp_path)
    assert ended.code == 1 and ended.errors.startswith("orders: ") and complaint in ended.errors, ended
    assert ended.errors.count("\n") == 1 and not ended.output, ended
    assert not (tmp_path / "orders.db").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_during_the_start_exits_with_0(name: str) -> None:
    """A server that is not ready yet stops as quietly as one that is."""
    code = (
        "import signal, sys; from orders import cli;"
        f" cli.run = lambda settings: signal.raise_signal(signal.{name});"
        " cli.main(['serve']); sys.exit('the signal was ignored')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", ""), ended


def test_a_signal_after_a_failed_start_adds_no_line(database: Path) -> None:
    """A worker that cannot start may be told to stop while its event loop closes. Nothing but the error is printed."""
    make_a_directory_of_its_lock(database)
    code = (
        "import signal, sys; from asyncio.selector_events import BaseSelectorEventLoop as Loop; from orders import cli;"
        " close = Loop.close; Loop.close = lambda loop: (close(loop), signal.raise_signal(signal.SIGTERM));"
        f" sys.exit(cli.main(['serve', '--port', '0', '--database', 'sqlite:///{database}']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and ended.stderr.startswith("orders: cannot open database"), ended
    assert ended.stderr.count("\n") == 1, ended


def test_an_error_that_nobody_can_read_exits_with_2() -> None:
    """The exit code says what is wrong when standard error is full."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "orders", "serve", "--port", "http"]
        assert subprocess.run(command, stderr=full, timeout=60).returncode == 2


def test_the_readiness_line_is_alone_on_standard_output(database: Path) -> None:
    """Standard output has the bound address and nothing else; the log goes to standard error."""
    with ServerProcess(database=database) as server:
        assert server.first_line == f"orders listening on http://127.0.0.1:{server.address[1]}\n"
        assert server.stop() == 0
        assert server.process.stdout and server.process.stdout.read() == ""


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_written_as_a_url(database: Path) -> None:
    """The readiness line is a URL that can be opened, brackets and all."""
    with ServerProcess("--host", "::1", database=database) as server:
        assert server.url == f"http://[::1]:{server.address[1]}"
