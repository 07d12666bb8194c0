"""What probes are asked to predict: one file each."""
