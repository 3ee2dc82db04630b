"""The settings of the server."""

from dataclasses import dataclass

from orders.storage.database import DatabaseURL


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The checked options of `orders serve`. `idle_timeout` is in seconds."""

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
