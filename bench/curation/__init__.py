"""Make and check sets of prompts, and measure labelers."""
