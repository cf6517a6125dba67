"""Training: one loop for all models."""
