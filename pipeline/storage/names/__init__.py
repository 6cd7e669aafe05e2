"""What objects, buckets and addresses are called, and what of that is secret."""
