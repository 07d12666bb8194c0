"""Estimates of the work, memory, disk space and time of a run."""
