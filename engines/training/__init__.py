"""Train matched small models on the rendered scenes: ``python -m engines.training --help``."""
