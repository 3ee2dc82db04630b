"""What `notebooks/course.py` gives the notebooks."""

import pytest

from tests.notebooks.notebooks import run
from tests.notebooks.test_machinery import notebook_of


def test_a_proxy_in_the_environment_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook sends its requests directly to the server, even if the environment names a proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.com")
    call = "import httpx\nfrom course import serve\nprint(httpx.get(f'{serve().url}/health').status_code)"
    assert run(notebook_of(call)).cells[0].outputs[0].text == "200\n"
