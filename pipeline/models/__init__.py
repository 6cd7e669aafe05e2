"""Hugging Face classifiers: fetched, checked, loaded, and run on a device."""
