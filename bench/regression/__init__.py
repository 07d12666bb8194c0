"""Comparisons of two runs or two profiles."""
