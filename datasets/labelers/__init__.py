"""What reads images: one file or package each."""
