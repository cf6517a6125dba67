"""Shards: WebDataset tars, written and read."""
