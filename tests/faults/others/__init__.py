"""Other people's models and files: lawful, unusual, unsupported and damaged ones, in one table."""
