"""Record activations: one denoising pass from a model and items, streamed to reducers."""
