"""The rules of the API, D1 to D13: each is stated in the contract and named by a test."""

import ast
import re
from pathlib import Path

import pytest

from tests.test_contract import document

HERE = Path(__file__).parent


@pytest.mark.parametrize("decision", [f"D{number}" for number in range(1, 14)])
def test_every_decision_is_stated_and_tested(decision: str) -> None:
    """The contract says what each decision is, and at least one test names it in its docstring."""
    assert f"- **{decision}** " in document()["info"]["description"]
    named_by = [
        function.name
        for path in HERE.rglob("test_*.py")
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
        if re.search(rf"\b{decision}\b", ast.get_docstring(function) or "")
    ]
    assert named_by, f"no test names {decision}"
