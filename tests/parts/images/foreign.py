"""Sound files that are not decoded here, and words of the message that each must get."""

import struct
import zlib
from collections.abc import Iterator
from functools import partial
from typing import Final

from PIL import Image, features

from tests.parts.images import tiffs
from tests.parts.images.forge import assemble, chunk, encode, ihdr, jpeg, picture
from tests.parts.images.tiffs import (
    COMPRESSION,
    DNG_VERSION,
    PHOTOMETRIC,
    REDUCED,
    Entry,
    page,
    tiff,
)

#: (name, bytes, words)
Foreign = tuple[str, bytes, str]

SVG: Final = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
_XML: Final = '<?xml version="1.0" encoding="UTF-8"?>'
_DOCTYPE: Final = '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/svg11.dtd">'
_ENTITIES: Final = '<!DOCTYPE svg [\n<!ENTITY ns "http://www.w3.org/2000/svg">\n<!ENTITY a "b">\n]>'
_COMMENT: Final = "<!-- Made by <b>an editor</b>, see <html> -->"


def foreign() -> Iterator[Foreign]:
    """Every kind whose first bytes or header tell what it is."""
    yield from svgs()
    yield from tiff_variants()
    yield from variants()
    yield from signatures()


def svgs() -> Iterator[Foreign]:
    """All that may stand before the root element of an SVG."""
    texts = {
        "bare": SVG,
        "xml": _XML + SVG,
        "space": " \r\n\t" + SVG,
        "doctype": _DOCTYPE + SVG,
        "entities": _XML + "\n" + _ENTITIES + "\n" + SVG,
        "comment": _COMMENT + SVG,
        "long-comment": "<!--" + "x" * 9000 + "-->" + SVG,
        "instruction": _XML + '<?xml-stylesheet href="a.css"?>' + SVG,
        "everything": f"\n{_COMMENT}\n{_DOCTYPE}\n{_COMMENT}\n{SVG}",
        "prefix": '<svg:svg xmlns:svg="http://www.w3.org/2000/svg"></svg:svg>',
    }
    for name, text in texts.items():
        yield f"svg-{name}.png", text.encode(), "SVG"
        yield f"svg-{name}-bom.png", text.encode("utf-8-sig"), "SVG"
        yield f"svg-{name}-utf16.png", text.encode("utf-16"), "SVG"
        yield f"svg-{name}-utf16-be-bom.png", b"\xfe\xff" + text.encode("utf-16-be"), "SVG"
        if text.startswith("<"):
            yield f"svg-{name}-utf16-le.png", text.encode("utf-16-le"), "SVG"
            yield f"svg-{name}-utf16-be.png", text.encode("utf-16-be"), "SVG"


def tiff_variants() -> Iterator[Foreign]:
    compressions = {
        34887: "LERC",
        34712: "JPEG 2000",
        33003: "JPEG 2000",
        33005: "JPEG 2000",
        50002: "JPEG XL",
        52546: "JPEG XL",
        34934: "JPEG XR",
        34933: "PNG",
        34661: "JBIG",
        34713: "Nikon",
        65432: "65432",
    }
    for order, name in (("<", "le"), (">", "be")):
        for number, words in compressions.items():
            packed = page(picture(), {COMPRESSION: (tiffs.SHORT, [number])})
            yield f"{number}-{name}.tiff", tiff([packed], order), f"{words}"
        for number in (32803, 34892):
            raw = page(picture("L"), {PHOTOMETRIC: (tiffs.SHORT, [number])})
            yield f"raw-{number}-{name}.tiff", tiff([raw], order), "raw photograph"
        for channels in (5, 8, 13):
            yield f"bands-{channels}-{name}.tiff", tiff([bands(channels)], order), "channels"
            yield f"planes-{channels}-{name}.tiff", tiff([bands(channels, 2)], order), "channels"
    for magic in (b"MM\0+", b"MM+\0"):
        big = tiff([page(picture())], ">", big=True)
        yield f"big-{magic.hex()}.tiff", magic + big[4:], "BigTIFF"
    big = tiff([page(picture())], "<", big=True)
    yield "big-ii.tiff", b"II\0+" + big[4:], "BigTIFF"


def bands(channels: int, planes: int = 1) -> tiffs.Page:
    """A grey image of several channels, side by side (1) or one after the other (2)."""
    merged = b"".join(bytes([n * 9 % 256]) for n in range(channels)) * (96 * 64)
    tags: dict[int, Entry] = {
        258: (tiffs.SHORT, [8] * channels),
        277: (tiffs.SHORT, [channels]),
        284: (tiffs.SHORT, [planes]),
        338: (tiffs.SHORT, [0] * (channels - 1)),
        279: (tiffs.LONG, [96 * 64] * channels if planes == 2 else [len(merged)]),
    }
    return tiffs.Page(page(picture("L")).tags | tags, merged, planes=channels if planes == 2 else 1)


def variants() -> Iterator[Foreign]:
    """Sorts of formats that are decoded otherwise."""
    data = jpeg()
    for marker in b"\xc5\xc6\xc7\xcd\xce\xcf":
        yield f"sof-{marker:x}.jpg", _with_frame(data, marker), "hierarchical"
    yield "sof-cb.jpg", _with_frame(data, 0xCB), "arithmetic"
    frame = bytes.fromhex("ffd8fff7000b080040006001011100")
    yield "jpeg-ls.jpg", frame + data[data.index(b"\xff\xda") :], "JPEG-LS"
    yield "jpeg-ls-spiff.jpg", _with_frame(data, 0xF7), "JPEG-LS"
    twelve = data.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")
    yield "twelve-bits.jpg", twelve, "12-bit"
    deflate = zlib.compressobj(wbits=-15)  # Apple leaves the header of zlib out
    rows = deflate.compress(bytes((96 * 3 + 1) * 64)) + deflate.flush()
    parts = (chunk(b"CgBI", b"P\0 \2"), ihdr(96, 64), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    yield "apple.png", assemble(*parts), "CgBI"
    psd = b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x40\0\0\0\x60\0\x10\0\3" + bytes(400)
    yield "sixteen-bits-psd.jpg", psd, "PSD"
    yield "psb.jpg", b"8BPS\0\2" + psd[6:], "PSD"
    bmp = encode(picture(), "BMP")
    yield "png-inside.bmp", bmp[:30] + b"\5\0\0\0" + bmp[34:], "bmp"
    if features.check("jpg_2000"):
        yield "five.jpg", _five_channels(encode(picture(), "JPEG2000", no_jp2=True)), "5 channels"


def _five_channels(codestream: bytes) -> bytes:
    """Two more in its SIZ segment, which comes first (T.800, A.5.1)."""
    length = struct.pack(">H", 38 + 3 * 5)
    return codestream[:4] + length + codestream[6:40] + b"\0\5" + b"\7\1\1" * 5 + codestream[51:]


def _with_frame(data: bytes, marker: int) -> bytes:
    return data.replace(b"\xff\xc0", bytes([0xFF, marker]), 1)


def signatures() -> Iterator[Foreign]:
    """Foreign formats by how they begin; the rest is never read."""
    rest = bytes(range(256)) * 4

    def media(brand: bytes, *compatible: bytes) -> bytes:
        head = b"ftyp" + brand + bytes(4) + b"".join(compatible)
        box = (len(head) + 4).to_bytes(4, "big") + head
        return box + (len(rest) + 8).to_bytes(4, "big") + b"mdat" + rest

    yield "codestream.jpg", b"\xff\x0a" + rest, "JPEG XL"
    yield "container.jpg", b"\0\0\0\x0cJXL \r\n\x87\n" + media(b"jxl "), "JPEG XL"
    yield "video.jpg", media(b"isom", b"avc1"), "MP4 video"
    yield "m4v.jpg", media(b"M4V ", b"isom"), "MP4 video"
    yield "film.jpg", media(b"qt  "), "QuickTime video"
    yield "canon.jpg", media(b"crx ", b"isom"), "CR3"
    beginnings = {
        "matroska": (b"\x1aE\xdf\xa3", "video"),
        "pdf": (b"%PDF-1.7\n", "PDF"),
        "dicom": (bytes(128) + b"DICM", "DICOM"),
        "fuji": (b"FUJIFILMCCD-RAW 0201", "RAF"),
        "olympus": (b"IIRO\x08\0\0\0", "ORF"),
        "olympus-old": (b"IIRS\x08\0\0\0", "ORF"),
        "olympus-be": (b"MMOR\0\0\0\x08", "ORF"),
        "panasonic": (b"IIU\0\x18\0\0\0", "RW2"),
        "minolta": (b"\0MRM\0\1\0\0", "MRW"),
        "sigma": (b"FOVb\0\0\2\0", "X3F"),
        "canon-old": (b"II\x1a\0\0\0HEAPCCDR", "CRW"),
        "exr": (b"\x76\x2f\x31\x01\2\0\0\0", "OpenEXR"),
        "radiance": (b"#?RADIANCE\n", "HDR"),
        "gimp": (b"gimp xcf v011\0", "XCF"),
        "djvu": (b"AT&TFORM\0\0\1\0DJVU", "DjVu"),
        "flif": (b"FLIF41", "FLIF"),
        "bpg": (b"BPG\xfb", "BPG"),
        "mng": (b"\x8aMNG\r\n\x1a\n", "MNG"),
        "jng": (b"\x8bJNG\r\n\x1a\n", "JNG"),
        "jxr": (b"II\xbc\1\x20\0\0\0", "JPEG XR"),
        "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "EPS"),
    }
    for name, (beginning, words) in beginnings.items():
        yield f"{name}.jpg", beginning + rest * (name != "eps"), words


_small: Final = partial(picture, size=(16, 12))


def previews() -> Iterator[Foreign]:
    """Raw photographs and the like, which Pillow opens as the small picture in front."""
    large, small = picture(), _small()
    raw = page(picture("L"), {PHOTOMETRIC: (tiffs.SHORT, [32803])})
    linear = page(large, {PHOTOMETRIC: (tiffs.SHORT, [34892])})
    unsized = tiffs.Page({PHOTOMETRIC: (tiffs.SHORT, [32803])}, b"raw")
    reduced = page(_small(seed=1), dict(REDUCED))
    dng: dict[int, Entry] = {DNG_VERSION: (tiffs.BYTE, [1, 7, 0, 0])}
    old: dict[int, Entry] = {255: (tiffs.SHORT, [2])}
    for order, big in (("<", False), (">", False), ("<", True)):
        make = partial(tiff, order=order, big=big)
        mark = f"{'le' if order == '<' else 'be'}{'-big' * big}.tiff"
        yield f"dng-{mark}", make([page(small, REDUCED | dng, [raw])]), "raw"
        yield f"dng-linear-{mark}", make([page(small, REDUCED | dng, [reduced, linear])]), "raw"
        yield f"dng-lost-{mark}", make([page(small, REDUCED | dng)]), "DNG"
        yield f"nef-{mark}", make([page(small, REDUCED, [reduced, raw])]), "raw"
        yield f"arw-{mark}", make([page(small, REDUCED, [unsized]), reduced]), "raw"
        yield f"not-marked-{mark}", make([page(small, None, [raw])]), "raw"
        yield f"raw-behind-{mark}", make([page(small), raw]), "raw"
        yield f"raw-below-the-next-{mark}", make([page(small), page(small, None, [raw])]), "raw"
        yield f"below-{mark}", make([page(small, REDUCED, [page(large)])]), "96 by 64"
        yield f"behind-{mark}", make([page(small, REDUCED), page(large)]), "96 by 64"
        yield f"old-mark-{mark}", make([page(small, old), page(large)]), "96 by 64"
        lost: dict[int, Entry] = {tiffs.BELOW: (tiffs.LONG, [2**31])}
        yield f"lost-{mark}", make([page(small, REDUCED | lost)]), "cannot be read"
    yield "cr2.tiff", _cr2(), "CR2"
    for mark, order in ((b"IIII\1waR", "<"), (b"MMMMRaw\1", ">")):
        phase_one = tiffs.Page(page(picture("L")).tags, mark + bytes(96 * 64))
        yield f"iiq-{order == '<'}.tiff", tiff([phase_one], order), "IIQ"


def _cr2() -> bytes:
    """Its first directory lies at 16 and has no mark of a preview."""
    tags = dict(page(_small("L")).tags) | {tiffs.STRIPS: (tiffs.LONG, [16 + 2 + 9 * 12 + 4])}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag][1][0]) for tag in sorted(tags))
    head = b"II*\0\x10\0\0\0CR\2\0\0\0\0\0"
    return head + struct.pack("<H", len(tags)) + entries + bytes(4) + _small("L").tobytes()


def ordinary() -> Iterator[tuple[str, bytes]]:
    """Files that look a little like those, and whose first image is the picture, 96 by 64."""
    large, small, larger = picture(), _small(), picture(size=(192, 128))
    mask: dict[int, Entry] = {tiffs.SUBFILE: (tiffs.LONG, [4])}
    lost: dict[int, Entry] = {tiffs.BELOW: (tiffs.LONG, [2**31])}
    grey = Image.new("L", large.size, ord("I"))
    for order, big in (("<", False), (">", False), ("<", True)):
        make = partial(tiff, order=order, big=big)
        mark = f"{'le' if order == '<' else 'be'}{'-big' * big}"
        yield f"pages-{mark}", make([page(large), page(small), page(larger)])
        yield f"pyramid-{mark}", make([page(large), page(small, REDUCED)])
        yield f"pyramid-below-{mark}", make([page(large, None, [page(small, REDUCED)])])
        yield f"alone-{mark}", make([page(large, REDUCED)])
        yield f"all-marked-{mark}", make([page(large, REDUCED), page(larger, REDUCED)])
        yield f"large-mask-{mark}", make([page(large, None, [page(larger, mask)])])
        yield f"lost-{mark}", make([page(large, lost)])
        yield f"grey-{mark}", make([page(grey)])
