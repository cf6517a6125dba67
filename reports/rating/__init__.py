"""Rating: people grade results blind."""
