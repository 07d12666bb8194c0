"""What executes a model: loading, export, backends."""
