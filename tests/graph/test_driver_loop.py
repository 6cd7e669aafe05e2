"""A graph that dies: what came out of it is committed, and what it died of is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

#: A Ray of its own, and a graph that gives five blocks and dies before the second cut.
DYING = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
import pyarrow as pa, ray
from pipeline.errors import ModelError
from pipeline.graph.batches import pack
from pipeline.graph.committer import Committer
from pipeline.graph.result_queue import ResultQueue, Stop
from pipeline.engine.capacity import Capacity
from pipeline.engine.placement import place
from pipeline.graph.driver_loop import Stream
from pipeline.graph.coordinator import CoordinatorClient
from pipeline.spec import make_spec
from pipeline.storage import Folder
from pipeline.store.lease import Lease
from pipeline.tasks import task_named
from tests.store.stores import LABELLED, RECIPE, new_table, rows

labels, store_dies = Path(sys.argv[1]), sys.argv[2] == "store too"
folder = Folder(str(labels))
folder.ensure()
table = new_table(folder)
committer = Committer(table, folder, "run", RECIPE, [], seconds=3600.0)

def graph():
    for number in range(5):
        if number == 1:
            while committer.rows < 10:
                time.sleep(0.05)
        labelled = rows(range(10 * number, 10 * number + 10))
        nulls = pa.nulls(10, LABELLED.field("replaces").type)
        labelled = labelled.append_column(LABELLED.field("replaces"), nulls)
        yield ray.put(pack(labelled)), 1
    if store_dies:
        labels.rename(labels.with_name("gone"))
        labels.write_text("no folder")
    raise ModelError("what the graph died of")

ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
stop = Stop()
job = SimpleNamespace(spec=make_spec(src="a", dst="b"), task=task_named("classify"))
stream = Stream(job, committer, stop, Lease(folder, "run"), lambda _: None, None)
try:
    room = Capacity(place({"CPU": 2.0}, None), lambda: {"CPU": 2.0})
    stream._consume(ResultQueue(graph(), stop), CoordinatorClient(), 1, room.check)
except ModelError as error:
    print(json.dumps({"error": str(error), "rows": committer.rows}))
"""


@pytest.mark.parametrize(("fault", "committed"), [("graph", 50), ("store too", 10)])
def test_what_came_before_a_graph_died_is_committed(
    tmp_path: Path, fault: str, committed: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path / "labels"), fault],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parent.parent.parent,
    )
    told = json.loads(done.stdout.splitlines()[-1]) if done.stdout else done.stderr
    assert told == {"error": "what the graph died of", "rows": committed}
