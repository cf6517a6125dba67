"""Checkpoints: weights and their configuration, as files."""
