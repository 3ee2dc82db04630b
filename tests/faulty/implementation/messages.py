"""HTTP requests and responses, between the connection and the API."""

from dataclasses import dataclass, field


@dataclass
class Request:
    """A request. The names of its headers are in lower case."""

    method: str
    path: str
    query: bytes
    keep_alive: bool
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Response:
    """A response, without the headers that the connection adds."""

    status: int
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
