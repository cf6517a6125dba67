"""Compute: tensors in, tensors out. Knows neither Prefect nor storage, nor files beyond a checkpoint."""

__version__ = "0.1.0"
