"""An index of run summaries that lies."""

from pipeline.storage import Folder
from pipeline.store.run_index import INDEX, Packed, RunIndex, _pack
from pipeline.store.runs import RUNS, RunSummary, load_runs


def forge(folder: Folder, run: RunSummary) -> None:
    """Let the index hold `run` for the document of its name, as the listing shows that one."""
    entries = {folder.relative(entry.uri): entry for entry in folder.list(RUNS)}
    packed = {
        path: Packed(entry.size, entry.etag or "", folder.read(path))
        for path, entry in entries.items()
    }
    path = f"{RUNS}{run.run_id}.json"
    data = run.model_dump_json().encode()
    data += b" " * (entries[path].size - len(data))
    assert len(data) == entries[path].size
    packed[path] = Packed(len(data), packed[path].etag, data)
    folder.put(INDEX, _pack(packed))
    assert run in load_runs(folder, RunIndex.read(folder))
