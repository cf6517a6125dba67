"""Numbers and images: metrics, the Parquet table of them, and the page people look at."""
