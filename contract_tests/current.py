"""The run of this process, for the tests that pytest makes while it collects them: Schemathesis's."""

from contract_tests.run import Run

run: Run
