"""Statistics of a finished run: comparisons, emergence, significance."""
