"""Ray: connect to a cluster or start an embedded Ray, and read its resources."""

import os

# When a run stops, Ray Data's own thread may outlive `ray.shutdown`. Its next call must fail, not
# start another Ray silently. Ray reads this variable when it is first imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
