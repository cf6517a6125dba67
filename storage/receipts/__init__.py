"""Receipts: what is done, what is left, what failed, and who may work on it."""
