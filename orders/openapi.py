"""Reads OpenAPI documents: the contract and the definition of the test controls."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# These keywords explain. They demand nothing of a server.
ANNOTATIONS = {"description", "example", "examples", "links", "summary", "tags"}


class DocumentError(Exception):
    """A document cannot be served. The message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Document:
    """An OpenAPI document: as it was written, as JSON, and as data."""

    as_yaml: bytes
    as_json: bytes
    data: Any


def load_document(path: Path) -> Document:
    """Read an OpenAPI document. Raises DocumentError, with the file and what is wrong with it."""
    try:
        source = path.read_bytes()
        # The loader in C is ten times as fast, but not every platform has it.
        data = yaml.load(source, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return Document(source, json.dumps(data).encode(), data)
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is not YAML that can be JSON: {' '.join(str(error).split())}") from error


@contextmanager
def well_formed() -> Iterator[None]:
    """Decorate a function that reads a document. It then raises DocumentError if a part has the wrong form."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError, re.error) as error:
        raise DocumentError(f"the document does not have the form of a contract: {error!r}") from error


def require(what: str, in_contract: Any, in_server: Any) -> None:
    """Raise DocumentError unless the contract and the server agree on a part."""
    if in_contract != in_server:
        raise DocumentError(f"{what}: {in_contract!r} in the contract, {in_server!r} in the server")


def resolve(root: Any, part: Any) -> Any:
    """Return a part of a document. If it is a `$ref`, return the part that it points to."""
    if "$ref" not in part:
        return part
    require("a part with a $ref", {*part} - ANNOTATIONS, {"$ref"})
    target = root
    for key in part["$ref"].removeprefix("#/").split("/"):
        target = target[key]
    return resolve(root, target)


def facts(root: Any, part: Any) -> Any:
    """Return a part of a document without annotations, and with each `$ref` replaced by what it refers to."""
    if isinstance(part, list):
        return [facts(root, item) for item in part]
    if not isinstance(part, dict):
        return part
    return {key: facts(root, value) for key, value in resolve(root, part).items() if key not in ANNOTATIONS}
