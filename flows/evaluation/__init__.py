"""Evaluation: collections in, numbers and pages out."""
