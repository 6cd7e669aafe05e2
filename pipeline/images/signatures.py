"""What the first bytes of an object say, for files that Pillow could not open.

File names are ignored. Pillow recognises what it can decode. This table, and that of
undecoded_formats.py, is used afterwards, to distinguish "no image at all", "an image that ends too
soon" and "a format not decoded here".
"""

import re
from collections.abc import Callable, Iterator

from pipeline.images.undecoded_formats import undecoded_format

#: ISO base media brands (ISO/IEC 23008-12, AVIF 1.1) of still images, and of other content.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_AVIF_BRANDS = (b"avif", b"avis")
_ANY_BRANDS = (b"mif1", b"msf1", b"mif2")
_OTHER_BRANDS = {b"crx ": "cr3", b"qt  ": "mov", b"jxl ": "jxl", b"jp2 ": "jp2"}

#: JPEG's marker of a scan, and the start of a JPEG 2000 codestream.
_SCAN = 0xDA
_SOC = b"\xff\x4f\xff\x51"

#: How far a root element is searched behind what may come before it.
_XML_BYTES = 2**16
_XML_ENCODINGS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)

#: In this order: longer, more specific ones first.
_PREFIXES = (
    (b"\xff\xd8\xff\xf7", "jls"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II\0*", "tiff"),
    (b"MM*\0", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"II\0+", "tiff"),
    (b"MM+\0", "tiff"),
    (b"IIRO", "orf"),
    (b"IIRS", "orf"),
    (b"MMOR", "orf"),
    (b"IIU\0", "rw2"),
    (b"\0MRM", "mrw"),
    (b"FOVb", "x3f"),
    (b"II\x1a\0\0\0HEAPCCDR", "crw"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"II\xbc", "jxr"),
    (b"8BPS", "psd"),
    (b"FUJIFILMCCD-RAW", "raf"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (_SOC, "jp2"),
    (b"qoif", "qoi"),
    (b"%!PS", "eps"),
    (b"\xc5\xd0\xd3\xc6", "eps"),
    (b"DDS ", "dds"),
    (b"BLP1", "blp"),
    (b"BLP2", "blp"),
    (b"icns", "icns"),
    (b"\0\0\1\0", "ico"),
    (b"\0\0\2\0", "cur"),
    (b"DanM", "msp"),
    (b"LinS", "msp"),
    (b"\x01\xda", "sgi"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"#?RADIANCE", "hdr"),
    (b"#?RGBE", "hdr"),
    (b"gimp xcf ", "xcf"),
    (b"AT&TFORM", "djvu"),
    (b"FLIF", "flif"),
    (b"BPG\xfb", "bpg"),
    (b"\x8aMNG\r\n\x1a\n", "mng"),
    (b"\x8bJNG\r\n\x1a\n", "jng"),
    (b"%PDF-", "pdf"),
    (b"\x1aE\xdf\xa3", "mkv"),
)


def sniff(data: bytes) -> str | None:
    """The image format that the first bytes of `data` announce, or None."""
    for prefix, name in _PREFIXES:
        if data.startswith(prefix):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    if data[128:132] == b"DICM":
        return "dicom"
    return "svg" if _is_svg(data[:_XML_BYTES]) else undecoded_format(data)


def _iso_media(data: bytes) -> str:
    """By the major brand, or by all brands if that only says that it is a still image."""
    major = data[8:12]
    brands = {major}
    if major in _ANY_BRANDS:
        listed = data[16 : min(int.from_bytes(data[:4], "big"), 256)]
        brands |= {listed[at : at + 4] for at in range(0, len(listed), 4)}
    if brands & set(_HEIF_BRANDS):
        return "heic"
    if brands & set(_AVIF_BRANDS):
        return "avif"
    return "heic" if major in _ANY_BRANDS else _OTHER_BRANDS.get(major, "mp4")


def _is_svg(head: bytes) -> bool:
    """Whether the root element of an XML document is `svg`, whatever comes before it."""
    encoding = next((name for mark, name in _XML_ENCODINGS if head.startswith(mark)), "latin-1")
    text = head.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    while text.startswith(("<?", "<!")):
        if text.startswith("<!--"):
            end = "-->"
        elif text.startswith("<?"):
            end = "?>"
        else:  # a DOCTYPE, which may hold declarations in brackets
            end = "]" if "[" in text.partition(">")[0] else ">"
        text = text.partition(end)[2].lstrip("]> \t\r\n" if end == "]" else None)
    name = re.match(r"<(?:[\w.-]+:)?svg[\s/>]", text)
    return name is not None


def cut_short(data: bytes) -> bool:
    """True if the structure of `data` says that bytes are missing at its end.

    Reads lengths and end marks only; False for a format without them.
    """
    check = _CHECKS.get(sniff(data) or "")
    return check is not None and check(data)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, offset) of the segments up to the first scan (ITU-T T.81, B.1.1).

    If there is no scan, the last is (0, where a marker was expected).
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # a fill byte before the marker
            at += 1
            continue
        yield data[at + 1], at
        if data[at + 1] == _SCAN:
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    yield 0, at


def _jpeg_cut_short(data: bytes) -> bool:
    marker, at = list(jpeg_segments(data))[-1]
    return b"\xff\xd9" not in data[at:] if marker == _SCAN else at + 4 > len(data)


def _boxes_cut_short(data: bytes) -> bool:
    """Walks the top-level boxes of an ISO base media file (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # 0 means "to the end of the file"
            return False
        at += size
    return at != len(data)


def _jp2_cut_short(data: bytes) -> bool:
    """Searches the end of the codestream, a marker that cannot occur inside it (T.800, A.4.4)."""
    bare = data.startswith(_SOC)
    ended = b"\xff\xd9" in data[max(0, data.find(_SOC)) :]
    return not ended or (not bare and _boxes_cut_short(data))


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "jpeg": _jpeg_cut_short,
    "png": lambda data: b"IEND" not in data,
    "gif": lambda data: not data.rstrip(b"\0").endswith(b";"),
    "webp": lambda data: int.from_bytes(data[4:8], "little") + 8 > len(data),
    "bmp": lambda data: int.from_bytes(data[2:6], "little") > len(data),
    "tiff": lambda data: len(data) < 8 or _ifd_offset(data) + 2 > len(data),
    "jp2": _jp2_cut_short,
    "avif": _boxes_cut_short,
    "heic": _boxes_cut_short,
}


def _ifd_offset(data: bytes) -> int:
    order = "little" if data[:1] == b"I" else "big"
    where = slice(8, 16) if data[2] == 0x2B or data[3] == 0x2B else slice(4, 8)
    return int.from_bytes(data[where], "little" if order == "little" else "big")
