"""Interventions: move what a run's probes read while images are generated, and see whether the images follow."""
