"""Models: Hugging Face checkpoints are fetched, checked, loaded, and run on a device."""
