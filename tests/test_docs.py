"""The documentation says what the code does."""

from pathlib import Path

from pipeline import schema
from pipeline.errors import ErrorCode
from pipeline.spec import load_spec

ROOT = Path(__file__).parent.parent
LABELS = (ROOT / "docs" / "labels.md").read_text()


def test_every_error_code_is_documented_as_it_is() -> None:
    for code in ErrorCode:
        again = "tries again" if code.transient else "leaves it"
        assert f"| `{code}` | {code.meaning} | {again} |" in LABELS


def test_every_column_is_documented() -> None:
    table = LABELS.partition("## Error codes")[0]
    assert [
        name for name in [*schema.LABELS.names, schema.PARTITION] if f"`{name}`" not in table
    ] == []


def test_the_specs_that_ship_are_valid() -> None:
    specs = sorted((ROOT / "jobs" / "specs").glob("*.toml"))
    assert specs
    for path in specs:
        assert load_spec(path, {}, {}).src
