"""What changed between two runs or profiles: for pull requests."""
