"""Error rates of intervals and tests on data whose truth is known."""
