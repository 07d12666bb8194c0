"""Linear probes in closed form: sufficient statistics, solutions, scores and intervals."""
