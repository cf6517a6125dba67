"""Training: the flow's side of it, and the processes that train."""
