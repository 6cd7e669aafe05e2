"""Default excludes: names that a prefix leaves out, since systems create them and no one took them.

Thumbnails would be labelled as images of their own, deleted images would come back, and
AppleDouble files have an image's name and no image inside. Only names that nothing else uses are
here; a folder counts at any depth, in upper or lower case.
"""

import re
from typing import Final

#: Folder → who makes it.
FOLDERS: Final = {
    "@eaDir": "Synology's thumbnails",
    ".@__thumb": "QNAP's thumbnails",
    ".thumbnails": "thumbnails of Android and GNOME",
    "__MACOSX": "what macOS adds to a zip file",
    "$RECYCLE.BIN": "the bin of Windows",
    "#recycle": "the bin of Synology",
    "@Recycle": "the bin of QNAP",
    ".Trash": "the bin of Linux",
    ".Trashes": "the bin of macOS",
    "System Volume Information": "Windows' own",
    "lost+found": "what a repair of a file system found; only root may look",
}
#: `.Trash-1000`: a user's bin on another disk.
TRASH: Final = ".Trash-*"
#: AppleDouble: what macOS keeps beside a file on disks of other systems.
APPLE_DOUBLE: Final = "._*"

_BY_LOWER: Final = {name.lower(): name for name in FOLDERS}
_FOLDERS: Final = "|".join(re.escape(name) for name in FOLDERS)
_LEFT_OUT: Final = re.compile(
    rf"(?:^|/)(?:(?P<folder>{_FOLDERS})/|(?P<trash>\.Trash-[^/]*)/|(?P<file>\._)[^/]*$)",
    re.IGNORECASE,
)


def left_out_as(name: str) -> str | None:
    """The pattern that leaves out a name relative to SRC, None for a name that is taken.

    The name of a folder ends in `/`.
    """
    found = _LEFT_OUT.search(name)
    if found is None:
        return None
    if found["folder"]:
        return _BY_LOWER[found["folder"].lower()]
    return TRASH if found["trash"] else APPLE_DOUBLE
