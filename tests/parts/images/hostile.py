"""Broken, hostile and merely odd files, made from a fixed seed, each with what it must give.

The verdict of a file is the set of error codes that are right for it; the empty set GOOD
says that it is an image and must get a label; a set with "" in it leaves that open, where
builds of Pillow and its libraries differ. The reference is Pillow: what it decodes is good.
"""

import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, features

from tests.parts.images.foreign import foreign
from tests.parts.images.forge import (
    SIZE,
    as_ycck,
    assemble,
    chunk,
    encode,
    flip,
    ihdr,
    jpeg,
    oriented,
    patch_sof,
    patch_tiff,
    picture,
    png,
    png16,
    png_parts,
    zip_file,
)

GOOD: frozenset[str] = frozenset()
BROKEN = frozenset({"truncated", "undecodable"})
REFUSED = frozenset({"undecodable", "unsupported"})
NO_IMAGE = frozenset({"not_an_image"})
#: Foreign formats: whoever knows them may label them, the others must say so.
UNKNOWN = frozenset({"not_an_image", "unsupported", "undecodable"})
FOREIGN = UNKNOWN | {""}

Entry = tuple[str, bytes, frozenset[str]]


def write_hostile(folder: Path) -> dict[str, set[str]]:
    """Write every file to `folder`; return name -> verdict (see above)."""
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = {}
    for name, data, codes in entries():
        if name in verdicts:
            raise ValueError(f"two files are called {name}")
        (folder / name).write_bytes(data)
        verdicts[name] = set(codes)
    return verdicts


def entries() -> Iterator[Entry]:
    yield from modes()
    yield from animations()
    yield from orientations()
    yield from shapes()
    yield from disguises()
    yield from names()
    yield from no_images()
    yield from truncations()
    yield from flips()
    yield from damagedassemble()
    yield from damaged_jpeg()
    yield from bombs()
    for name, data, _ in foreign():
        yield f"foreign-{name}", data, frozenset({"unsupported"})


def modes() -> Iterator[Entry]:
    """Every Pillow mode that some format can hold."""
    grey = np.asarray(picture("L"))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"mode-{mode}.png", encode(picture(mode), "PNG"), GOOD
        yield f"mode-{mode}.tiff", encode(picture(mode), "TIFF"), GOOD
    for mode in ("CMYK", "YCbCr"):
        yield f"mode-{mode}.tiff", encode(picture(mode), "TIFF"), GOOD
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    yield "mode-I16.png", encode(sixteen, "PNG"), GOOD
    yield "mode-I16.tiff", encode(sixteen, "TIFF"), GOOD
    yield "mode-I.tiff", encode(Image.fromarray(grey.astype(np.int32)), "TIFF"), GOOD
    yield "mode-F.tiff", encode(Image.fromarray(grey.astype(np.float32)), "TIFF"), GOOD
    yield "mode-RGB16.png", png16(), GOOD
    lab = Image.fromarray(np.asarray(picture()), mode="LAB")
    yield "mode-LAB.tiff", encode(lab, "TIFF"), GOOD
    yield "mode-PA.tiff", encode(picture("P").convert("PA"), "TIFF"), GOOD
    yield "palette-transparency.png", encode(picture("P"), "PNG", transparency=3), GOOD
    yield "palette-alphas.png", encode(picture("P"), "PNG", transparency=bytes(range(256))), GOOD
    yield "mode-L.jpg", encode(picture("L"), "JPEG"), GOOD
    yield "progressive.jpg", encode(picture(), "JPEG", progressive=True), GOOD
    cmyk = encode(picture("CMYK"), "JPEG")
    yield "mode-CMYK.jpg", cmyk, GOOD
    yield "mode-YCCK.jpg", as_ycck(cmyk), GOOD
    yield "lossless.webp", encode(picture("RGBA"), "WEBP", lossless=True), GOOD
    yield "lossy.webp", encode(picture(), "WEBP"), GOOD
    if features.check("avif"):
        yield "still.avif", encode(picture(), "AVIF"), GOOD


def animations() -> Iterator[Entry]:
    """Only the first frame counts."""
    frames = [picture(seed=seed) for seed in range(3)]
    for name, format_ in (("moving.gif", "GIF"), ("moving.png", "PNG"), ("moving.webp", "WEBP")):
        yield name, encode(frames[0], format_, save_all=True, append_images=frames[1:]), GOOD
    yield "pages.tiff", encode(frames[0], "TIFF", save_all=True, append_images=frames[1:]), GOOD


def orientations() -> Iterator[Entry]:
    for orientation in range(1, 9):
        data = encode(picture(), "JPEG", exif=oriented(orientation))
        yield f"exif-{orientation}.jpg", data, GOOD
    yield "exif-6.png", encode(picture(), "PNG", exif=oriented(6)), GOOD
    yield "exif-8.webp", encode(picture(), "WEBP", exif=oriented(8)), GOOD
    yield "exif-99.jpg", encode(picture(), "JPEG", exif=oriented(99)), GOOD
    yield "exif-broken.jpg", encode(picture(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), GOOD


def shapes() -> Iterator[Entry]:
    for size in ((1, 1), (1, 5000), (5000, 1), (2, 3), (4000, 3)):
        name = f"{size[0]}x{size[1]}"
        yield f"{name}.png", encode(picture(size=size), "PNG"), GOOD
        yield f"{name}.jpg", encode(picture(size=size), "JPEG"), GOOD


def disguises() -> Iterator[Entry]:
    """Images whose suffix lies: content decides."""
    yield "png-inside.jpg", png(), GOOD
    yield "jpeg-inside.png", jpeg(), GOOD
    yield "webp-inside.gif", encode(picture(), "WEBP"), GOOD
    yield "gif-inside.tiff", encode(picture(), "GIF"), GOOD
    yield "bmp-inside.webp", encode(picture(), "BMP"), GOOD
    yield "tiff-inside.bmp", encode(picture(), "TIFF"), GOOD
    yield "jpeg-with-a-zip-behind.jpg", jpeg() + zip_file(), GOOD


def names() -> Iterator[Entry]:
    """Names that break uris, shells, globs and CSV."""
    for seed, name in enumerate(
        (
            "with space.jpg",
            " leading and trailing .jpg",
            "100%20percent.jpg",
            "100%.jpg",
            "hash#tag.jpg",
            "query?a=b&c=d.jpg",
            "plus+plus.jpg",
            "quote'single.jpg",
            'quote"double.jpg',
            "comma,semi;colon.jpg",
            "star*[brackets]{braces}.jpg",
            "$HOME`id`$(id).jpg",
            "-dash.jpg",
            ".hidden.jpg",
            "..jpg",
            "a..b.jpg",
            "at@colon:.jpg",
            "tilde~caret^pipe|.jpg",
            "recipe=r0.jpg",
            "naïve-日本語-😀.jpg",
            "e\u0301-decomposed.jpg",
            "UPPER.JPG",
            "Mixed.JpEg",
            f"long-{'x' * 191}.jpg",
        ),
        start=100,
    ):
        yield name, jpeg(seed), GOOD


def no_images() -> Iterator[Entry]:
    html = b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n"
    denied = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    noise = random.Random(7).randbytes(4096)
    yield "empty.jpg", b"", frozenset({"empty"})
    yield "empty.png", b"", frozenset({"empty"})
    yield "one-byte.jpg", b"\xff", NO_IMAGE | BROKEN
    yield "newline.jpg", b"\n", NO_IMAGE
    yield "html.jpg", html, NO_IMAGE
    yield "denied.jpg", denied, NO_IMAGE
    yield "text.png", b"This is not an image.\n" * 40, NO_IMAGE
    yield "json.jpg", b'{"error": "not found"}', NO_IMAGE
    yield "lfs-pointer.jpg", pointer, NO_IMAGE
    yield "zip.jpg", zip_file(), NO_IMAGE
    yield "exe.jpg", b"MZ\x90\0" + bytes(56) + b"\x40\0\0\0PE\0\0" + bytes(400), NO_IMAGE
    yield "elf.png", b"\x7fELF\x02\x01\x01" + bytes(400), NO_IMAGE
    yield "noise.jpg", noise, NO_IMAGE
    yield "zeros.jpg", bytes(4096), NO_IMAGE | {"undecodable"}
    yield "svg.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', UNKNOWN
    yield "pdf.jpg", b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n", UNKNOWN
    yield "eps.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", UNKNOWN
    yield "ppm.jpg", encode(picture(), "PPM"), FOREIGN
    yield "ico.png", encode(picture(), "ICO"), FOREIGN
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + noise[:200]
    yield "only-a-head.heic", heic, UNKNOWN | BROKEN


def truncations() -> Iterator[Entry]:
    """Each format cut at several points; a rest too short to know is no image either."""
    whole = {
        "jpg": jpeg(),
        "png": png(),
        "gif": encode(picture(), "GIF"),
        "webp": encode(picture(), "WEBP"),
        "tiff": encode(picture(), "TIFF"),
        "bmp": encode(picture(), "BMP"),
    }
    for suffix, data in whole.items():
        for where, size in (
            ("magic", 3),
            ("header", 20),
            ("quarter", len(data) // 4),
            ("half", len(data) // 2),
            ("end", len(data) - 64),
        ):
            codes = BROKEN | NO_IMAGE if size <= 20 else BROKEN
            yield f"cut-{where}.{suffix}", data[:size], codes


def flips() -> Iterator[Entry]:
    """One bit turned in the first bytes: no longer the format that it was."""
    yield "flip-magic.jpg", flip(jpeg(), 0), NO_IMAGE
    yield "flip-magic.png", flip(png(), 1), NO_IMAGE
    yield "flip-magic.gif", flip(encode(picture(), "GIF"), 1), NO_IMAGE
    yield "flip-magic.webp", flip(encode(picture(), "WEBP"), 9), NO_IMAGE
    yield "flip-magic.bmp", flip(encode(picture(), "BMP"), 0), NO_IMAGE
    yield "flip-magic.tiff", flip(encode(picture(), "TIFF"), 0), NO_IMAGE
    yield "flip-ihdr.png", flip(png(), 13), BROKEN | NO_IMAGE


def damagedassemble() -> Iterator[Entry]:
    rows = zlib.compress(b"".join(b"\0" + bytes(SIZE[0] * 3) for _ in range(SIZE[1])))
    head, data, end = ihdr(*SIZE), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    wrong_head = ihdr(*SIZE)[:-4] + b"\0\0\0\0"
    yield "unknown-ancillary-chunk.png", assemble(head, chunk(b"niGh", b"hello"), data, end), GOOD
    yield (
        "unknown-critical-chunk.png",
        assemble(head, chunk(b"NIGH", b"x"), data, end),
        BROKEN | {""},
    )
    yield "crc-of-ihdr.png", assemble(wrong_head, data, end), BROKEN
    yield "crc-of-idat.png", assemble(head, data[:-4] + b"\0\0\0\0", end), BROKEN | {""}
    yield "no-ihdr.png", assemble(data, end), BROKEN
    yield "no-idat.png", assemble(head, end), BROKEN
    yield "no-iend.png", assemble(head, data), BROKEN | {""}
    yield "bad-deflate.png", assemble(head, chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 50), end), BROKEN
    yield "width-0.png", assemble(ihdr(0, 64), data, end), BROKEN
    yield "height-0.png", assemble(ihdr(96, 0), data, end), BROKEN
    yield "depth-3.png", assemble(ihdr(*SIZE, depth=3), data, end), BROKEN | REFUSED
    yield "colour-type-5.png", assemble(ihdr(*SIZE, colour=5), data, end), BROKEN | REFUSED
    yield "rows-missing.png", assemble(ihdr(96, 640), data, end), BROKEN | {""}
    yield "huge-chunk-length.png", assemble(head, b"\xff\xff\xff\xffIDAT", rows), BROKEN | {""}


def damaged_jpeg() -> Iterator[Entry]:
    data = jpeg()
    scan = data.index(b"\xff\xda")
    yield "no-eoi.jpg", data[:-2], BROKEN | {""}
    yield "only-soi.jpg", data[:2], BROKEN | NO_IMAGE
    yield "soi-eoi.jpg", b"\xff\xd8\xff\xd9", BROKEN | NO_IMAGE
    yield "no-tables.jpg", data[:2] + data[scan:], BROKEN
    yield "no-scan.jpg", data[:scan] + b"\xff\xd9", BROKEN
    yield "garbage-scan.jpg", data[: scan + 14] + random.Random(3).randbytes(999), BROKEN | {""}
    yield "height-0.jpg", patch_sof(data, height=0), BROKEN
    yield "precision-12.jpg", patch_sof(data, precision=12), BROKEN | REFUSED


def bombs() -> Iterator[Entry]:
    """Small files that ask for gigabytes: refused by what the header says."""
    too_large = frozenset({"too_large"})
    zeros = zlib.compressobj(9)
    row = bytes(1 + 20_000 // 8)
    packed = b"".join(zeros.compress(row) for _ in range(20_000)) + zeros.flush()
    flat = chunk(b"IDAT", packed)
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000_000), 9))
    small = assemble(ihdr(*SIZE), text, *png_parts(png())[1:])
    gif = encode(picture(), "GIF")
    tiff = encode(picture(), "TIFF")
    bmp = encode(picture(), "BMP")
    yield "60000x60000.png", assemble(ihdr(60_000, 60_000), chunk(b"IDAT", b""), b""), too_large
    yield "2147483647x1.png", assemble(ihdr(2**31 - 1, 1), chunk(b"IDAT", b"")), too_large
    yield "bomb.png", assemble(ihdr(20_000, 20_000, 1, 0), flat, chunk(b"IEND", b"")), too_large
    yield "text-bomb.png", small, too_large | BROKEN | {""}
    yield "65500x65500.jpg", patch_sof(jpeg(), width=65_500, height=65_500), too_large
    yield "65535x65535.gif", gif[:6] + struct.pack("<HH", 65_535, 65_535) + gif[10:], too_large
    yield "50000x50000.bmp", bmp[:18] + struct.pack("<ii", 50_000, 50_000) + bmp[26:], too_large
    yield "50000x50000.tiff", patch_tiff(tiff, {256: 50_000, 257: 50_000}), too_large
    canvas = (16_000_000 - 1).to_bytes(3, "little")
    vp8x = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + (255).to_bytes(3, "little")
    webp = encode(picture(), "WEBP")
    yield "4-gib.webp", webp[:4] + b"\xff" * 4 + webp[8:], BROKEN | {""}
    yield "4-gib.bmp", bmp[:2] + b"\xff" * 4 + bmp[6:], BROKEN | {""}
    yield "4-gib-strip.tiff", patch_tiff(tiff, {279: 2**32 - 1}), BROKEN | {""}
    yield "16000000x256.webp", b"RIFF" + struct.pack("<I", 22) + b"WEBP" + vp8x, too_large | BROKEN
