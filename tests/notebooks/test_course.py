"""What `notebooks/course.py` gives the notebooks."""

import re

import pytest

from tests.notebooks.notebooks import FOLDER, run
from tests.notebooks.test_machinery import notebook_of


def test_a_proxy_in_the_environment_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook sends its requests directly to the server, even if the environment names a proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.com")
    call = "import httpx\nfrom course import serve\nprint(httpx.get(f'{serve().url}/health').status_code)"
    assert run(notebook_of(call)).cells[0].outputs[0].text == "200\n"


def printed(*sources: str) -> str:
    """Return what the last of these cells prints. Cells before it start a server and define `client`."""
    start = "import httpx\nfrom course import reveal, serve, show\nserver = serve()\n"
    start += "client = httpx.Client(base_url=server.url)"
    text: str = run(notebook_of(start, *sources)).cells[-1].outputs[0].text
    return text


def test_show_prints_a_request_as_it_was_sent() -> None:
    """`show` prints the encoded target, the headers that matter and the body of a request, and of its answer."""
    call = (
        "show(client.put('/orders/assign', params={'order_id': 'a+b c'}, json={'x': 1}, headers={'Prefer': 'wait=0'}))"
    )
    assert printed(call).splitlines() == [
        "PUT /orders/assign?order_id=a%2Bb+c HTTP/1.1",
        "Content-Type: application/json",
        "Prefer: wait=0",
        "{",
        '  "x": 1',
        "}",
        "",
        "HTTP/1.1 400 Bad Request",
        "Content-Type: application/json",
        "Preference-Applied: wait=0",
        "{",
        '  "message": "Missing parameters, please provide order_id, executor_id and zone_id"',
        "}",
    ]


def test_a_cell_that_runs_again_says_what_to_do() -> None:
    """If a cell has run before, `show` says that the server remembers it, until the first cell is run again."""
    again = "from types import SimpleNamespace\nimport course\n"
    again += "cell = SimpleNamespace(cell_id='1', raw_cell='show(...)')\n"
    again += "for restart in (False, False, True):\n    restart and serve()\n    course._note_cell(cell)\n"
    again += "    show(client.get('/health'))\n    print('---')"
    first, second, third, _ = printed(again).split("---")
    assert "For a fresh start, run the first code cell." in second
    assert first.strip() == third.strip() and "first code cell" not in first


@pytest.mark.parametrize(
    ("prediction", "text"),
    [
        ("...", "No prediction yet. Replace the ... with yours, and run this cell again.\n"),
        ("200", "Right: 200.\n"),
        ("404", "It is 200. You predicted 404.\n"),
    ],
)
def test_a_prediction_is_compared(prediction: str, text: str) -> None:
    """`reveal` compares a prediction with the outcome. It does not reveal the outcome to a reader without one."""
    assert printed(f"reveal({prediction}, 200)") == text


def test_the_colours_are_readable() -> None:
    """Each colour of the charts has a contrast of at least 4.5 : 1 on the charts' card (WCAG 2.2, 1.4.3)."""
    source = (FOLDER / "course.py").read_text()
    card, *colours = re.findall(r'"(#[0-9a-f]{6})"', source)
    assert len(colours) == 7
    contrasts = {colour: (luminance(card) + 0.05) / (luminance(colour) + 0.05) for colour in colours}
    assert min(contrasts.values()) >= 4.5, contrasts


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
