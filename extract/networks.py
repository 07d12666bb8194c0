"""Names of the networks that a run records, shared by the code that records and reads them."""

TRAINED = "trained"
INPUT = "input"
"""The pseudo-network whose only layer is the input of the trained network."""
CLEAN = "clean"
"""The pseudo-network whose only layer is the predicted clean latents."""
CONVOLUTION = "convolution"
DECODED = "decoded"
"""The pseudo-network of the labeler's maps of the unfinished image."""
DECODED_LAYERS = ("latent", "predicted")
"""Decoded from the latents after a step, and from the predicted clean latents."""
