"""Real parts for the tests: an S3 server, images, a model, files that break decoders."""
