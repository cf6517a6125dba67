"""The models that the training loop trains, a module each; `dtls.methods` has them by name."""
