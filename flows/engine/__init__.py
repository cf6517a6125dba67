"""The engine: units are done once each, wherever they run."""
