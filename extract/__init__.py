"""From a model and items to activations, one pass, streamed to reducers."""
