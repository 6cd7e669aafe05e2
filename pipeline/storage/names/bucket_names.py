"""Valid names of buckets, containers and accounts.

Such a name becomes part of a host or of a path, and anyone may have written a list. So a store is
asked nothing about a name that its provider does not allow. `localhost:80#` would be a host to a
client, but only the environment decides which host is asked.
"""

import re
from typing import Final

#: Buckets made in us-east-1 before 2018 may have such names, and so do aliases of access points.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_S3: Final = re.compile(r"(?!\.+$|(?:[0-9]+\.){3}[0-9]+$)[A-Za-z0-9._-]{1,255}")
#: What may come before `.s3.region.amazonaws.com`, where dots break TLS.
_S3_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: Domain names too: https://cloud.google.com/storage/docs/buckets#naming
_GCS: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,220}[a-z0-9])?")
#: A container of the environment's account, or `container@account.dfs.core.windows.net`.
#: https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
_CONTAINER: Final = r"(?=.{1,63}(?:@|$))[a-z0-9](?:-?[a-z0-9])*|\$(?:root|web|logs|blobchangefeed)"
_ACCOUNT: Final = r"[a-z0-9]{3,24}(?:-secondary)?\.(?:dfs|blob)\.core\.windows\.net"
_WORKSPACE: Final = r"[A-Za-z0-9_-]{1,255}@[a-z0-9-]{1,63}\.(?:dfs|blob)\.fabric\.microsoft\.com"
_AZURE: Final = re.compile(rf"(?:{_CONTAINER})(?:@{_ACCOUNT})?|{_WORKSPACE}")

_NAMES: Final = {"s3": _S3, "gs": _GCS, "az": _AZURE, "abfs": _AZURE, "abfss": _AZURE}


def problem_of(root: str) -> str | None:
    """Why `root`, such as `s3://bucket`, is not a valid name; None if it is."""
    kind, _, name = root.partition("://")
    if kind == "s3" and name.startswith("arn:"):
        return "an ARN; write the alias of the access point, which S3's console shows"
    if _NAMES[kind].fullmatch(name) is None:
        return "not a valid name of a bucket or container"
    return None


def may_be_host(bucket: str) -> bool:
    """Whether S3 has a host for this bucket; other buckets are addressed by path."""
    return _S3_LABEL.fullmatch(bucket) is not None
