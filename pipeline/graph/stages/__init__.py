"""The stages of the graph, each from one Arrow table to another.

    shards ──List──▶ REFS to do ──Decode──▶ PIXELS ──Predict──▶ rows of the task    with GPUs
    shards ──List──▶ REFS to do ──Label──────────────────────▶ rows of the task    without
    shards ──List──▶ REFS to do ──Decode─────────────────────▶ rows of the task    without a network

Where the cluster has GPUs, tasks on the cores decode, and actors on the devices predict. Otherwise
a process on each core does both, so pixels stay in one process. A task without a network runs
where images are decoded. Stages exchange batches; each batch is one row (batches.py). Every ref
that leaves List leaves the last stage as one row of its batch: a result or an error code.
"""
