"""transformers' pipeline, batched, fed by a generator as its documentation shows."""

import sys
from pathlib import Path

BATCH = 64


def main() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from transformers import pipeline

    images, model, out = (Path(argument) for argument in sys.argv[1:4])
    out.mkdir(parents=True)
    paths = [str(path) for path in sorted(images.iterdir())]
    classify = pipeline("image-classification", model=str(model))
    labels = [
        found[0]["label"] for found in classify((path for path in paths), batch_size=BATCH, top_k=1)
    ]
    pq.write_table(pa.table({"path": paths, "label": labels}), out / "0.parquet")


if __name__ == "__main__":
    main()
