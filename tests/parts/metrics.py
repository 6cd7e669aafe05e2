"""A real Prometheus that scrapes a cluster of this machine."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.parts.archives import need, prometheus
from tests.parts.cluster import LocalCluster, free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, query: str) -> dict[str, float]:
        """The present value of each series of a query, by its labels as JSON."""
        at = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(at, timeout=10) as response:
            found = json.load(response)["data"]["result"]
        return {json.dumps(one["metric"]): float(one["value"][1]) for one in found}

    def number(self, query: str) -> float | None:
        """The value of a query of one series, None where there is none."""
        return next(iter(self.ask(query).values()), None)

    def comes_to(self, query: str, least: float) -> float:
        """What a query gives as soon as that is `least` or more, or when half a minute is up:
        workers tell every ten seconds."""
        until = time.monotonic() + 30.0
        while (found := self.number(query) or 0.0) < least and time.monotonic() < until:
            time.sleep(0.5)
        return found


@contextmanager
def scraping(cluster: LocalCluster, folder: Path) -> Iterator[Prometheus]:
    """Prometheus with our own configuration, but for where Ray's files are and how often."""
    program = need(prometheus) / "prometheus"
    port = free_port()
    config = yaml.safe_load((ROOT / "jobs" / "monitoring" / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    config["rule_files"] = [str(ROOT / "jobs" / "monitoring" / "alerts.yml")]
    [discovery] = config["scrape_configs"][0]["file_sd_configs"]
    discovery["files"] = [str(cluster.folder / Path(discovery["files"][0]).name)]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={path}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield Prometheus(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(30)
