"""Interventions: edit activations by a run's probes while images are generated."""
