"""Scan: list a source and subtract the store's ledger: what to label, what is gone."""

import pipeline.engine  # noqa: F401 - what Ray reads when it is first imported
