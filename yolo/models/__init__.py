"""Models: loaded, saved, initialised."""
