"""Names of the networks that a run watches, for whoever generates and for whoever reads what was found."""

TRAINED = "trained"
INPUT = "input"
"""The pseudo-network whose only layer is what the trained one is given."""
CONVOLUTION = "convolution"
DECODED = "decoded"
"""No network: what the labeler sees in the unfinished image."""
DECODED_LAYERS = ("latent", "predicted")
"""The image of the latents after a step, and of the clean latents that the network predicts."""
