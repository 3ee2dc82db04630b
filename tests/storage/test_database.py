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
    """Three slashes lead to a relative path, four to an absolute one."""
    assert DatabaseURL.parse(url) == DatabaseURL("sqlite", path)


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
    """What names neither an SQLite file nor a PostgreSQL database is refused, and the message shows it."""
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
    """There may be a password in it, and complaints end up in logs."""
    with pytest.raises(DatabaseURLError) as refused:
        DatabaseURL.parse(url)
    assert "sh@" not in str(refused.value)
