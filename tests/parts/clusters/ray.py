"""A Ray in the process of the tests, started and ended as a run does with its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray

from pipeline.engine.embedded import end_at_once, fast_start, metrics_once


@contextmanager
def own_ray(cpus: int = 2) -> Iterator[None]:
    with fast_start():
        ray.init(
            "local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            _system_config=metrics_once(),
        )
    try:
        yield
    finally:
        end_at_once()
        ray.shutdown()
