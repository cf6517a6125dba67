"""Bytes: where they are stored, what images they hold, and what is done. It knows neither tensors nor Prefect."""
