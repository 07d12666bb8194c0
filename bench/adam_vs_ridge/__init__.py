"""Linear probes trained by Adam, as is usual, beside those of a closed form."""
