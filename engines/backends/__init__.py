"""Ways to execute a UNet, one file each."""
