"""Inference: methods that turn LR images into SR images, at any size."""
