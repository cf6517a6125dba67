"""Numbers and pictures: metrics, the Parquet table of them, and the page people look at."""
