"""Inputs: what a user names becomes a listing, a method or a choice."""
