"""The checkpoint that the acceptance run labels with is a sound Hugging Face classifier."""

import json

import pytest

from tests.parts.archives.real_archives import PartUnavailable
from tests.parts.models.dinov2 import checkpoint, labelled_stamps

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.mark.parametrize("kind", ["dinov2", "vit"])
def test_labels_stamps_through_the_plain_pipeline(kind: str) -> None:
    import transformers

    try:
        folder = checkpoint(kind)
        stamps = labelled_stamps()[::40]
    except PartUnavailable as error:
        pytest.skip(str(error))
    model, info = transformers.AutoModelForImageClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]

    classify = transformers.pipeline(
        "image-classification", model=str(folder), image_processor=str(folder)
    )
    answers = classify([str(path) for path, _ in stamps], top_k=1)
    hits = [answer[0]["label"] == label for answer, (_, label) in zip(answers, stamps, strict=True)]
    assert sum(hits) / len(hits) > 0.8
    assert set(model.config.label2id) == {label for _, label in labelled_stamps()}
    assert json.loads((folder / "held_out.json").read_text())["accuracy"] > 0.6
