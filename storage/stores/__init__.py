"""Stores: where bytes are kept, as keys below an address."""
