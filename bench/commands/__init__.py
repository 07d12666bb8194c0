"""The commands of ``python -m bench``: one file each, whose docstring is its help; nothing heavy at its top."""
