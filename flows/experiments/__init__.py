"""Experiments: methods trained, tested and compared; tables of the papers."""
