"""The experiment, its measurements, and all that a person looks at."""
