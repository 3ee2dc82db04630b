"""The documentation page, and the contract as it is served."""

import re

import yaml

from harness.client import Client
from orders.contract import contract_path


def test_the_contract_is_served(client: Client) -> None:
    """Both forms of the contract are there, and say the same."""
    as_yaml, as_json = client.http.get("/openapi.yaml"), client.http.get("/openapi.json")
    assert as_yaml.content == contract_path().read_bytes()
    assert as_yaml.headers["content-type"] == "application/yaml"
    assert as_json.headers["content-type"] == "application/json"
    assert as_json.json() == yaml.safe_load(as_yaml.content)


def test_the_page_needs_nothing_from_elsewhere(client: Client) -> None:
    """All that the page loads is on this server, and is what the page takes it for."""
    page = client.http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "//" not in re.sub(r"//# .*", "", page.text), "an address of another server"
    loaded = re.findall(r'(?:src|href|url)(?:=|: )"([^"]+)"', page.text)
    assert len(loaded) == 4
    for path in loaded:
        response = client.http.get(path)
        assert response.status_code == 200, path
        assert len(response.content) > 500, path
