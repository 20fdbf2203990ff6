"""What notebooks measure off the training path: angles, Gaussians, probes, parts, trained vectors, information, cost, a data card; checks of a derivation, explorers."""
