"""The contract suite itself, under test."""
