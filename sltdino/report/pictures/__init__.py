"""Pictures of what a run learned, made on its own images."""
