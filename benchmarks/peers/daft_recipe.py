"""Daft: download, decode and resize in its engine, the model in a class UDF."""

import json
import sys
from pathlib import Path
from typing import Any

import daft
import numpy as np
import torch
from daft import DataType, col
from transformers import AutoModelForImageClassification

BATCH = 32
images, folder, out = sys.argv[1:4]
config = json.loads((Path(folder) / "preprocessor_config.json").read_text())
HEIGHT, WIDTH = config["size"]["height"], config["size"]["width"]


@daft.cls
class Classifier:
    def __init__(self) -> None:
        self.model = AutoModelForImageClassification.from_pretrained(folder).eval()
        self.mean = torch.tensor(config["image_mean"]).view(-1, 1, 1)
        self.std = torch.tensor(config["image_std"]).view(-1, 1, 1)

    @daft.method.batch(return_dtype=DataType.string(), batch_size=BATCH)
    def classify(self, pixels: Any) -> list[str]:
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(pixels.to_pylist())).permute(0, 3, 1, 2).float()
            logits = self.model(pixel_values=(batch / 255 - self.mean) / self.std).logits
            return [self.model.config.id2label[index] for index in logits.argmax(1).tolist()]


def main() -> None:
    Path(out).mkdir(parents=True)
    daft.set_runner_native()
    (
        daft.from_glob_path(f"{images}/*")
        .with_column("image", col("path").download().decode_image(mode="RGB"))
        .with_column("image", col("image").resize(WIDTH, HEIGHT))
        .with_column("label", Classifier().classify(col("image")))
        .select("path", "label")
        .write_parquet(out)
    )


if __name__ == "__main__":
    main()
