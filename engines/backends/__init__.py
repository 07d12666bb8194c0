"""Ways to execute a denoiser, one file each."""
