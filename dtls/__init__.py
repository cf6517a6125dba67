"""Compute: tensors in, tensors out. Knows neither Prefect nor storage, nor files beyond a checkpoint."""
