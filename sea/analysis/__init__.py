"""What notebooks measure off the training path, from angles and Gaussians to trained vectors and a data card."""
