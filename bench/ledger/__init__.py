"""The ledger: entries of runs that anyone can check, and the leaderboard of them."""
