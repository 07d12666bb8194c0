"""A run's folder: who works in it, what is stored, what is read back."""
