"""The Ray Data graph of a run, and the driver that commits its results."""

import pipeline.engine  # noqa: F401 - what Ray reads when it is first imported
