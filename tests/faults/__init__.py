"""Every fault that a user's machine can have, tried for real: ``python -m tests.faults`` prints what happened."""
