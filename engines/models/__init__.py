"""Models to probe, one file or package each."""
