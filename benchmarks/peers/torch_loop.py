"""A plain loop: Pillow and torch, in PROCESSES processes of THREADS threads."""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    paths = sorted(options.images.iterdir())
    if options.processes == 1:
        label(paths, options.model, options.out / "0.parquet", options.threads)
        return
    with ProcessPoolExecutor(options.processes) as pool:
        running = [
            pool.submit(
                label,
                paths[number :: options.processes],
                options.model,
                options.out / f"{number}.parquet",
                options.threads,
            )
            for number in range(options.processes)
        ]
        for one in running:
            one.result()


def label(paths: list[Path], folder: Path, out: Path, threads: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from PIL import Image
    from transformers import AutoModelForImageClassification

    torch.set_num_threads(threads)
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    config = json.loads((folder / "preprocessor_config.json").read_text())
    size = (config["size"]["width"], config["size"]["height"])
    mean = torch.tensor(config["image_mean"]).view(-1, 1, 1)
    std = torch.tensor(config["image_std"]).view(-1, 1, 1)
    labels: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(paths), BATCH):
            images = [
                np.asarray(
                    Image.open(path, formats=["JPEG", "PNG", "WEBP"])
                    .convert("RGB")
                    .resize(size, config["resample"])
                )
                for path in paths[start : start + BATCH]
            ]
            pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
            logits = model(pixel_values=(pixels / 255 - mean) / std).logits
            labels += [model.config.id2label[index] for index in logits.argmax(1).tolist()]
    pq.write_table(pa.table({"path": [str(path) for path in paths], "label": labels}), out)


if __name__ == "__main__":
    main()
