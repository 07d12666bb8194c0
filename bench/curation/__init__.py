"""Make and audit datasets, and hold labelers and models against exact labels."""
