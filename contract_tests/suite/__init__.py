"""What the tests of the contract stand on."""
