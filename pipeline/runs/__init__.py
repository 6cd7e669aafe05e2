"""Use cases, one file each: label, plan, verify, bench and so on, and what they share."""

import pipeline.engine  # noqa: F401 - what Ray reads when it is first imported
