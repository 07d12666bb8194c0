"""Families of denoisers, one file or package each: how to load, condition, call and tap them."""
