"""The documentation says what the code does."""

from pathlib import Path

from pipeline import schema
from pipeline.errors import ErrorCode

LABELS = (Path(__file__).parent.parent / "docs" / "labels.md").read_text()


def test_every_error_code_is_documented_as_it_is() -> None:
    for code in ErrorCode:
        again = "tries again" if code.transient else "leaves it"
        assert f"| `{code}` | {code.meaning} | {again} |" in LABELS


def test_every_column_is_documented() -> None:
    table = LABELS.partition("## Error codes")[0]
    assert [
        name for name in [*schema.LABELS.names, schema.PARTITION] if f"`{name}`" not in table
    ] == []
