"""`python -m contract_tests` prints the table of clauses, for README.md."""

from contract_tests.clauses import table

print(table())
