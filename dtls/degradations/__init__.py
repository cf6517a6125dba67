"""Degradations: what makes LR images of HR images."""
