"""Linear probes in closed form: sums, solutions, scores, intervals."""
