"""Names of objects, buckets and addresses, and which parts of them are secret."""
