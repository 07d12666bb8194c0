"""What reads pictures: one file or package each."""
