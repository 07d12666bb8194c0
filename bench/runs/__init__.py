"""A run's folder: locks, shards, results, and reading them again."""
