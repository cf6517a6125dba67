"""What a person sees: the console, options as a form and as a command, texts."""
