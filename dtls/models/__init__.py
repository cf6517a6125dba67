"""The models that the training loop trains, a module each; `dtls.inference.method` has them by name."""
