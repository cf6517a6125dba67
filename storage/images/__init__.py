"""Images: bytes to pixels and back, with all that a photograph carries."""
