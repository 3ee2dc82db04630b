"""Database URLs."""

import pytest

from orders.storage.database import DatabaseURL, DatabaseURLError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///orders.db", "orders.db"),
        ("sqlite:///data/my orders.db", "data/my orders.db"),
        ("sqlite:////var/lib/orders.db", "/var/lib/orders.db"),
        ("sqlite:///:memory:", ":memory:"),
    ],
)
def test_a_database_url_names_a_file(url: str, path: str) -> None:
    """An SQLite URL with three slashes has a relative path, one with four slashes an absolute path."""
    assert DatabaseURL.parse(url) == DatabaseURL("sqlite", path)


@pytest.mark.parametrize("url", ["postgresql://host/orders", "postgres://host/orders", "postgresql://"])
def test_a_database_url_names_a_postgresql_server(url: str) -> None:
    """Both schemes that libpq knows are accepted. A URL may leave everything to libpq's variables and defaults."""
    assert DatabaseURL.parse(url).kind == "postgresql"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "orders.db",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite://x.db",
        "mysql://x/y",
        "sqlite:///x?mode=ro",
        "postgresql:///orders?no_such_option=1",
        "postgresql://[::1/orders",
        "postgresql://host:http/orders",
        "postgresql://user:a/b@host/orders",
        "postgresql://user:a@b@host/orders",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """A URL that names neither an SQLite file nor a PostgreSQL database is refused."""
    with pytest.raises(DatabaseURLError):
        DatabaseURL.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hu%zzsh@host/orders",
        "postgresql:/user:hush@host/orders",
        "postgresql://user:hu/sh@host/orders",
        "postgresql://user:12/sh@host/orders",
        "postgresql://user:hu@sh@host/orders",
        "postgresql://user:hu@,sh@host/orders",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    """The message has no part of the URL, because the URL may contain a password, and logs keep messages."""
    with pytest.raises(DatabaseURLError) as refused:
        DatabaseURL.parse(url)
    assert "sh@" not in str(refused.value)
