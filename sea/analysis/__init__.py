"""What notebooks measure off the training path: angles, Gaussians, probes, parts, information, cost, a data card."""
