"""Linear probes trained with Adam, as published, compared with ridge regression."""
