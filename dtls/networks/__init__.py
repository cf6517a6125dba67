"""Networks without a method: what several models are built of."""
