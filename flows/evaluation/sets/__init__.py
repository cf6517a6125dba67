"""Generated images against real ones: features in units, then numbers, samples and a page."""
