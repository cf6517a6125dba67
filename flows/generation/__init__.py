"""Seeds in, images out: what `dtls generate` makes, and its units."""
