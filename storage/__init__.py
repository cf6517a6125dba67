"""Bytes: where they lie, what images they hold, and what is already done. Knows neither tensors nor Prefect."""
