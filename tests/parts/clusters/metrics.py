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

from tests.parts.archives.real_archives import need, prometheus
from tests.parts.clusters.cluster import LocalCluster, free_port

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Prometheus:
    url: str

    def number(self, query: str) -> float:
        """The value of a query of one series, 0 where there is none."""
        at = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(at, timeout=10) as response:
            series = json.load(response)["data"]["result"]
        return float(series[0]["value"][1]) if series else 0.0

    def comes_to(self, query: str, least: float) -> float:
        """What a query gives as soon as that is `least` or more, or when half a minute is up:
        workers tell every ten seconds."""
        until = time.monotonic() + 30.0
        while (found := self.number(query)) < least and time.monotonic() < until:
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
