"""List a source and subtract what a store holds: what is left to do, what is gone."""

import pipeline.engine  # noqa: F401 - what Ray reads when it is first imported
