"""`python -m contract_tests` prints the table of clauses that README.md has."""

from contract_tests.clauses import table

print(table())
