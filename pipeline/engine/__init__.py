"""Ray itself: a cluster or a Ray of our own to run on, and what it has."""

import os

# Where a run is stopped, Ray Data's own thread may outlive `ray.shutdown`; its next call must
# fail, not start another Ray behind our back. Ray reads this when it is first imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
