"""Storage: the only code that accesses object stores, web servers and local files.

    s3 gs az     obstore for bulk reads and documents; s3 listings signed by botocore
    file         the operating system
    http(s)      urllib3
    others       fsspec

Web addresses are read under `Rules`; the default refuses addresses that are not public.

Foreign exceptions are classified (`faults.py`) and translated (`translate.py`) here, nowhere else.
"""

from pipeline.storage.clients.web import STRICT, Rules
from pipeline.storage.entry import UNKNOWN_SIZE, UNKNOWN_TIME, Entry, microseconds
from pipeline.storage.faults import Unsupported, no_panic
from pipeline.storage.folder import Folder
from pipeline.storage.hooks import deliver
from pipeline.storage.listing.local import Visit
from pipeline.storage.listing.pages import check_readable, first_page, in_key_order, list_pages
from pipeline.storage.local.delta_root import DeltaRoot
from pipeline.storage.local.named_file import open_to_append
from pipeline.storage.local.private import guarded_folder, private_folder
from pipeline.storage.names.addresses import TOO_LONG
from pipeline.storage.names.secrets import all_recorded, identities, identity, recorded, redacted
from pipeline.storage.names.uris import (
    BUCKETS,
    MEMBER_MARK,
    as_folder,
    canonical,
    join,
    local_path,
    member_name,
    public,
    relative,
    scheme,
)
from pipeline.storage.objects import open_binary, stat, stat_many
from pipeline.storage.outage import Canaries, read_steadily
from pipeline.storage.parallel import BYTES_IN_FLIGHT
from pipeline.storage.ranges import Ranged, Unread, open_ranged
from pipeline.storage.reading import read_many
from pipeline.storage.translate import border, delta_error
from pipeline.storage.wants import Failed, Piece, Want

__all__ = [
    "BUCKETS",
    "BYTES_IN_FLIGHT",
    "MEMBER_MARK",
    "STRICT",
    "TOO_LONG",
    "UNKNOWN_SIZE",
    "UNKNOWN_TIME",
    "Canaries",
    "DeltaRoot",
    "Entry",
    "Failed",
    "Folder",
    "Piece",
    "Ranged",
    "Rules",
    "Unread",
    "Unsupported",
    "Visit",
    "Want",
    "all_recorded",
    "as_folder",
    "border",
    "canonical",
    "check_readable",
    "deliver",
    "delta_error",
    "first_page",
    "guarded_folder",
    "identities",
    "identity",
    "in_key_order",
    "join",
    "list_pages",
    "local_path",
    "member_name",
    "microseconds",
    "no_panic",
    "open_binary",
    "open_ranged",
    "open_to_append",
    "private_folder",
    "public",
    "read_many",
    "read_steadily",
    "recorded",
    "redacted",
    "relative",
    "scheme",
    "stat",
    "stat_many",
]
