"""What a person looks at, made of a run's folder alone."""
