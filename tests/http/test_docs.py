"""The served contract and the documentation page."""

import re

import yaml

from harness.client import Client
from orders.contract import contract_path


def test_the_contract_is_served(client: Client) -> None:
    """The server serves the contract as YAML and as JSON, with the same content."""
    as_yaml, as_json = client.http.get("/openapi.yaml"), client.http.get("/openapi.json")
    assert as_yaml.content == contract_path().read_bytes()
    assert as_yaml.headers["content-type"] == "application/yaml"
    assert as_json.headers["content-type"] == "application/json"
    assert as_json.json() == yaml.safe_load(as_yaml.content)


def test_the_page_loads_everything_from_this_server(client: Client) -> None:
    """The documentation page names no other server, and this server has every file that the page loads."""
    page = client.http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "//" not in re.sub(r"//# .*", "", page.text), "the page names another server"
    loaded = re.findall(r'(?:src|href|url)(?:=|: )"([^"]+)"', page.text)
    assert len(loaded) == 4
    for path in loaded:
        response = client.http.get(path)
        assert response.status_code == 200 and len(response.content) > 500, f"{path}: {response.status_code}"
