"""Tables: the numbers of a report, in Parquet, Markdown and LaTeX."""
