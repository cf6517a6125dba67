"""Samplers: from the enlarged LR image to the SR image."""
