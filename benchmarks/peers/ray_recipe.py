"""Ray Data's documented image classification: read_images, a pipeline in a pool of actors."""

import sys
from pathlib import Path
from typing import Any

BATCH = 64
ACTORS = 2


class Classifier:
    def __init__(self, model: str) -> None:
        from transformers import pipeline

        self._classify = pipeline("image-classification", model=model)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from PIL import Image

        images = [Image.fromarray(image) for image in batch["image"]]
        found = self._classify(images, top_k=1, batch_size=BATCH)
        batch["label"] = [best[0]["label"] for best in found]
        return batch


def main() -> None:
    import ray

    images, model, out = sys.argv[1:4]
    Path(out).mkdir(parents=True)
    (
        ray.data.read_images(images, mode="RGB", include_paths=True)
        .map_batches(
            Classifier,
            fn_constructor_args=(model,),
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(size=ACTORS),
            num_cpus=0.5,  # with one each, no CPU of two is left to read with
        )
        .drop_columns(["image"])
        .write_parquet(out)
    )


if __name__ == "__main__":
    main()
