"""Clocks that are far from the truth: the service works on."""

import time
from pathlib import Path
from uuid import UUID

import pytest

from orders.lifecycle import Orders, new_id
from tests.storage.scenarios import prepare, run

# Seconds since 1970: in 1944, in 9966, and when the 48 bits for milliseconds in a UUID are used up, in 10889.
CLOCKS = [-806_976_000, 252_328_608_000, 2**48 // 1000 + 1]


@pytest.mark.parametrize("seconds", CLOCKS)
def test_an_order_has_an_id_whatever_the_clock_says(
    database: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """An order is assigned and acquired, and its id is a UUID of version 7 that no other order has."""
    monkeypatch.setattr(time, "time_ns", lambda: seconds * 1_000_000_000)

    async def scenario(orders: Orders) -> None:
        assert await orders.assign("order", "executor", "zone") is True
        profile = await orders.acquire("executor")
        assert profile and UUID(profile["assigned_order_id"]).version == 7, profile

    prepare(database)
    run(database, scenario)
    assert len({new_id() for _ in range(100)}) == 100
