"""The limits in SECURITY.md are those of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from orders.cli import serve

SECURITY = Path(__file__).parents[1] / "SECURITY.md"
ROWS = re.findall(r"^\| (.+) \| ([\d,]+)[^|]* \| `(.+)` \|$", SECURITY.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("limit", "value", "place"), ROWS, ids=[place for *_, place in ROWS])
def test_a_limit_is_that_of_the_code(limit: str, value: str, place: str) -> None:
    """The number in the table is the value of the constant, or the default of the option, that the row names."""
    if place.startswith("--"):
        in_code = next(option.default for option in serve.params if place in option.opts)
    else:
        module, _, name = place.rpartition(".")
        in_code = getattr(import_module(module), name)
    assert in_code == int(value.replace(",", "")), limit


def test_the_table_has_the_limits() -> None:
    """The page has a table that the test above can read."""
    assert len(ROWS) == 13
