"""The four deployments and the command line: thin flows over the other rooms."""
