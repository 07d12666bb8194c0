"""The tasks: what probes predict, one file each."""
