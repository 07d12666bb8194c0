"""What a finished run's scores say: comparisons, curves, when something emerges."""
