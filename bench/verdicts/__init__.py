"""Claims of papers: what a claim is, what tests it, and the runs that it needs."""
