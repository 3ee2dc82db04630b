"""The systemd unit and its settings file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.core import ParameterSource

from harness.nginx import ROOT
from harness.programs import require_program
from orders.cli import serve

UNIT = ROOT / "deploy" / "orders.service"
SETTINGS = ROOT / "deploy" / "orders.env"
PROGRAM = "/opt/orders/bin/orders"


def analyze(*arguments: str | Path) -> str:
    """Run systemd-analyze, which must find no problem; return its output."""
    program = require_program("systemd")
    ended = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and not ended.stderr, (ended.args, ended.returncode, ended.stdout, ended.stderr)
    return ended.stdout


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """systemd understands every line of the unit."""
    installed = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert PROGRAM in text
    installed.write_text(text.replace(PROGRAM, str(Path(sys.executable).with_name("orders"))))
    analyze("verify", installed)


def test_the_unit_is_sandboxed() -> None:
    """systemd rates the unit's exposure at 1.5 of 10 or less."""
    analyze("security", "--offline=yes", "--threshold=15", UNIT)


@pytest.mark.parametrize("commented_out", [False, True])
def test_the_settings_are_options_of_the_server(monkeypatch: pytest.MonkeyPatch, commented_out: bool) -> None:
    """Each variable in the settings file, commented out or not, is an option of `orders serve`."""
    lines = re.findall(rf"^{'# ' if commented_out else ''}(ORDERS_\w+)=(.*)$", SETTINGS.read_text(), re.MULTILINE)
    assert lines
    for name, value in lines:
        monkeypatch.setenv(name, value)
    options = serve.make_context("serve", [])
    for name, _ in lines:
        source = options.get_parameter_source(name.removeprefix("ORDERS_").lower())
        assert source is ParameterSource.ENVIRONMENT, f"{name} is no option"
