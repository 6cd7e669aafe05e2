"""One file a use case: label, plan, verify, bench and their like, and what they share."""

import pipeline.engine  # noqa: F401 - what Ray reads when it is first imported
