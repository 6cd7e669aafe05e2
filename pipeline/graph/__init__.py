"""The Ray Data graph of a run, and the driver that commits what comes out of it."""

import pipeline.engine  # noqa: F401 - what Ray reads when it is first imported
