"""The page deploy/README.md: its statements do what it says."""

import re

from harness.client import CREATED, Client, message
from harness.nginx import ROOT
from harness.postgresql import PostgreSQL
from tests.deploy.conftest import start

PAGE = (ROOT / "deploy" / "README.md").read_text()


def test_the_service_can_use_the_role_and_the_database_of_the_page() -> None:
    """The page's first statements make what the service needs; the other ones are statements of PostgreSQL too."""
    first, *others = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    with PostgreSQL() as postgresql:
        postgresql.execute("DROP DATABASE orders", "postgres")
        # The tests' superuser has the name that the page gives the service's role.
        for statement in (
            first.replace("ROLE orders", "ROLE service").replace("OWNER orders", "OWNER service").split(";")
        ):
            if statement.strip():
                postgresql.execute(statement, "postgres")
        url = postgresql.url.replace("orders@", "service:PASSWORD@")
        with start(url) as service, Client(service.url) as client:
            assert message(client.assign("order", "executor")) == CREATED
        for statement in "".join(others).split(";"):
            if statement.split("--")[0].strip():
                postgresql.execute(statement)
