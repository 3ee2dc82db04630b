"""What `orders serve` prints on a terminal."""

import os
import pty
import re
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from harness.processes import end_group, start

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def run_on_terminal(*options: str, cwd: Path, **environment: str) -> tuple[str, str]:
    """Run the server with standard error on a terminal; return its first line and the terminal's text."""
    terminal, stderr = pty.openpty()
    process = start(
        [sys.executable, "-m", "orders", "serve", "--port", "0", "--database", "sqlite:///:memory:", *options],
        stderr=stderr,
        cwd=cwd,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(stderr)
    shown = b""
    try:
        assert process.stdout
        first_line = process.stdout.readline()
        deadline = time.monotonic() + 60
        while b"Ctrl-C" not in shown and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 10_000)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        with suppress(OSError):
            shown += os.read(terminal, 10_000)
        assert process.stdout.read() == ""
        process.stdout.close()
    finally:
        end_group(process.pid)
        process.wait(60)
        os.close(terminal)
    return first_line, shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("controls", [True, False])
def test_a_terminal_shows_the_urls(tmp_path: Path, controls: bool) -> None:
    """On a terminal, the server lists `/docs`, the three operations, and the controls if they are on, in colour."""
    first_line, shown = run_on_terminal(*(["--controls"] if controls else []), cwd=tmp_path)
    assert ESCAPES.search(shown)
    url = first_line.split()[-1]
    expected = [
        f"  docs    {url}/docs",
        f"  assign  PUT  {url}/orders/assign?order_id=…&executor_id=…&zone_id=…",
        f"  acquire GET  {url}/order/acquire?executor_id=…",
        f"  cancel  POST {url}/order/cancel?order_id=…",
    ]
    if controls:
        expected.append(f"  control POST {url}/_controls/reset, and more: see docs")
    assert ESCAPES.sub("", shown).splitlines() == [*expected, "  Ctrl-C stops the server."], shown


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_can_be_turned_off(tmp_path: Path, environment: dict[str, str]) -> None:
    """With `NO_COLOR`, or on a terminal without colours, the lines are plain."""
    _, shown = run_on_terminal(cwd=tmp_path, **environment)
    assert "/order/acquire" in shown and not ESCAPES.search(shown), shown
