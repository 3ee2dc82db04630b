"""An empty Tornado handler: the cost of Tornado itself. The only argument is the port."""

import asyncio
import sys

from tornado.web import Application, RequestHandler


class EmptyHandler(RequestHandler):
    """Answers 200 with an empty body."""

    def get(self) -> None:
        """Answer a GET."""

    put = post = get


async def main(port: int) -> None:
    """Serve until killed."""
    Application([(r"/.*", EmptyHandler)]).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
