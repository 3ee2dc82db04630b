"""The server: runs the components in threads of this process."""

import threading
from typing import Self, TypeVar

from tests.faulty.implementation.api import Api
from tests.faulty.implementation.connection import Connection, Listener
from tests.faulty.implementation.parameters import Parameters
from tests.faulty.implementation.store import Store

Component = TypeVar("Component", Store, Parameters, Api, Connection)


class Server:
    """A server on 127.0.0.1 that runs while its context is entered.

    Each replacement takes the place of the component that it is a subclass of. Port 0 means any free port. `url` is set
    once the server listens.
    """

    POLL_S = 0.02

    def __init__(self, *replacements: type, port: int = 0) -> None:
        self._replacements = replacements
        self._port = port
        self.url = ""

    def __enter__(self) -> Self:
        """Start to serve."""
        api = self._component(Api)(self._component(Store)(), self._component(Parameters)())
        self._listener = Listener(self._port, self._component(Connection), api)
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(self.POLL_S,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, close all connections, and wait for all threads."""
        self._listener.shutdown()
        self._thread.join()
        self._listener.close_connections()
        self._listener.server_close()

    def _component(self, correct: type[Component]) -> type[Component]:
        return next((own for own in self._replacements if issubclass(own, correct)), correct)
