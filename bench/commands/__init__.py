"""The commands of ``python -m bench``, one file each; its docstring is the help text."""
