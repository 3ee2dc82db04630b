"""`openapi.yaml` and its loader."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from orders.contract import Contract, contract_path, load_contract
from orders.openapi import DocumentError


def document() -> dict[str, Any]:
    """Return a fresh copy of the contract as data."""
    data: dict[str, Any] = yaml.safe_load(contract_path().read_text())
    return data


def test_every_example_is_valid_by_its_schema() -> None:
    """Each named example of an answer fits the schema of its status, and exactly one branch of it."""
    contract = document()
    responses = [
        (operation["operationId"], status, response)
        for path in contract["paths"].values()
        for operation in path.values()
        for status, response in operation["responses"].items()
    ]
    examples = 0
    for operation_id, status, response in responses:
        if "$ref" in response:
            response = contract["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        content = response["content"]["application/json"]
        branches = content["schema"].get("oneOf", [content["schema"]])
        assert len(content["examples"]) == len(branches), f"{operation_id} {status}: an example for each branch"
        for name, example in content["examples"].items():
            schema = {**content["schema"], "components": contract["components"]}
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(example["value"])]
            assert not errors, f"{operation_id} {status} {name}: {errors}"
            examples += 1
    assert examples == 15


@pytest.mark.parametrize(
    "text", ["", "[]", "openapi: [", "\0", "openapi: 3.1.0\npaths: 7", "a: !!python/object:os.system x"]
)
def test_a_file_that_is_no_contract_is_refused(tmp_path: Path, text: str) -> None:
    """What is not a contract at all is refused in one line, with the file."""
    with pytest.raises(DocumentError) as caught:
        path = tmp_path / "openapi.yaml"
        path.write_text(text)
        load_contract(path)
    assert str(tmp_path / "openapi.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_contract_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(DocumentError, match=r"cannot read .*openapi\.yaml: No such file or directory"):
        load_contract(tmp_path / "openapi.yaml")


def test_the_document_is_served_as_it_is(contract: Contract) -> None:
    """`/openapi.yaml` is the file to the letter, and `/openapi.json` the same data."""
    assert contract.document.as_yaml == contract_path().read_bytes()
    assert json.loads(contract.document.as_json) == document()
