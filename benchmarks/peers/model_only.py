"""No pipeline at all: how many images PROCESSES processes of one thread push through a model.

    python -m benchmarks.peers.model_only MODEL COUNT --processes N

prints images a second, all processes together, once their models are loaded. It is the ceiling
of everything that labels with this model on this machine.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(
        options.processes, initializer=load, initargs=(options.model,)
    ) as pool:
        list(pool.map(predict, [BATCH] * options.processes * 2))  # loads and warms all of them
        began = time.perf_counter()
        share = options.count // options.processes
        list(pool.map(predict, [share] * options.processes))
        print(options.count / (time.perf_counter() - began))


def load(folder: Path) -> None:
    import torch
    from transformers import AutoModelForImageClassification

    torch.set_num_threads(1)
    globals()["model"] = AutoModelForImageClassification.from_pretrained(folder).eval()


def predict(count: int) -> None:
    import torch

    batch = torch.rand(BATCH, 3, 224, 224)
    with torch.inference_mode():
        for _ in range(max(1, count // BATCH)):
            globals()["model"](pixel_values=batch).logits.argmax(1)


if __name__ == "__main__":
    main()
