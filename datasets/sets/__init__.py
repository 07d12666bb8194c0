"""Sets of items: one file each."""
