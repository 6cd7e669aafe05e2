"""A custom resource against its definition, as strictly as `kubectl --validate=strict` is."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

#: libyaml's where PyYAML has it: a definition has a megabyte.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def schema_of(definition: Path, version: str) -> dict[str, Any]:
    """The schema of a version of a CustomResourceDefinition, closed."""
    versions = yaml.load(definition.read_text(), _Loader)["spec"]["versions"]
    (found,) = (one for one in versions if one["name"] == version)
    return closed(found["schema"]["openAPIV3Schema"])


def closed(schema: Any) -> Any:
    """The same schema, in which an object has no properties but those that are named."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        # What is under `properties` are names, one of which may be "properties" itself.
        made["properties"] = {name: closed(one) for name, one in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    return made


def problems(schema: dict[str, Any], document: Any) -> Iterator[str]:
    """What is wrong, and where: `spec.entrypoint: 3 is not of type 'string'`."""
    for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
        yield f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
