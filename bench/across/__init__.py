"""Compare models that were run on the same items: noise levels, order, what they share."""
