"""Items, scenes, labels and splits."""
