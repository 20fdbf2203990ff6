"""What notebooks measure off the training path: angles, Gaussians, probes, trained parts, cost, a dataset's card."""
