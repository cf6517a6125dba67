"""Archives: zips and tars read where they are stored, and written whole."""
