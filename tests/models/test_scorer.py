"""The scale of pixels: each channel its own, whatever the shape of the image."""

from pathlib import Path

import numpy as np
import torch

from pipeline.models.backends.loading import load_classifier
from pipeline.models.scorer import Scorer
from tests.models import tiny


def test_each_channel_gets_its_own_mean_and_std(vit: Path) -> None:
    scorer = Scorer(load_classifier(vit, torch.device("cpu"), "fp32"), **tiny.SCALE, top_k=1)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8))
    scaled = scorer.scaled(pixels)
    assert (scaled.shape, scaled.dtype) == ((3, 3, 5, 7), torch.float32)
    mean, std = (torch.tensor(tiny.SCALE[name]).view(3, 1, 1) for name in ("mean", "std"))
    one_by_one = (pixels.permute(0, 3, 1, 2).float() * tiny.SCALE["rescale"] - mean) / std
    assert torch.equal(scaled, one_by_one)
