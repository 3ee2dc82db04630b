"""The SQL statements of deploy/README.md work."""

import re

from harness.client import CREATED, Client, message
from harness.nginx import ROOT
from harness.postgresql import PostgreSQL
from tests.deploy.conftest import start

PAGE = (ROOT / "deploy" / "README.md").read_text()


def test_the_statements_of_the_page_work() -> None:
    """The page's first statements create a role and a database for the server; PostgreSQL accepts the others."""
    first, *others = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    with PostgreSQL() as postgresql:
        postgresql.execute("DROP DATABASE orders", "postgres")
        # The page's role has the same name as the tests' superuser, so it gets another one.
        for statement in (
            first.replace("ROLE orders", "ROLE service").replace("OWNER orders", "OWNER service").split(";")
        ):
            if statement.strip():
                postgresql.execute(statement, "postgres")
        url = postgresql.url.replace("orders@", "service:PASSWORD@")
        with start(url) as server, Client(server.url) as client:
            assert message(client.assign("order", "executor")) == CREATED
        for statement in "".join(others).split(";"):
            if statement.split("--")[0].strip():
                postgresql.execute(statement)
