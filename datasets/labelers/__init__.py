"""Labelers, one file or package each."""
