"""Metrics: how near an image or a set of images is to another."""
