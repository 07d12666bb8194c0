"""Fault injection in real runs: ``python -m tests.faults`` prints a table of the outcomes."""
