"""How often tests and intervals are wrong where nothing is to be found."""
