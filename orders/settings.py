"""What `orders serve` can be told."""

from dataclasses import dataclass

from orders.storage.database import DatabaseURL


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `orders serve`, checked."""

    host: str
    port: int
    workers: int
    database: DatabaseURL
    database_connections: int
    idle_timeout: float
    access_log: bool
    log_level: str
    cors_origins: tuple[str, ...]
    controls: bool
    expose_controls: bool
