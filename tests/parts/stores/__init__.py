"""Label stores, made without a run, and what may happen to them."""
