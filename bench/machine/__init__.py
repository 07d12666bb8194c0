"""Measure what a machine can do, and predict the stages of a run from it."""
