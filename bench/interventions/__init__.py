"""Interventions: move what a run's probes read while pictures are painted, and see whether the pictures follow."""
