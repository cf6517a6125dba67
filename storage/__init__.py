"""Bytes: where they lie, what pictures they hold, and what is already done. Knows neither tensors nor Prefect."""
