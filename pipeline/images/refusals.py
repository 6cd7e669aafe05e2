"""Maps Pillow's many errors to our error codes; no other file does."""

import re
import struct
import zlib
from io import BytesIO

from PIL import Image, UnidentifiedImageError, features

from pipeline.errors import ErrorCode, ImageError
from pipeline.images import tiff
from pipeline.images.formats import formats
from pipeline.images.signatures import cut_short, jpeg_segments, sniff

#: What Pillow raises for bad files: seen over its own test images and mutations of them, and named
#: in its plugins. AssertionError and SyntaxError may also mean "bad file".
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

#: Pillow's messages for a valid file of a variant that it does not support.
_NOT_KNOWN = re.compile(
    r"unsupported|unimplemented|not supported|unknown pixel mode|cannot handle", re.IGNORECASE
)

_CONVERT = "convert it to JPEG or PNG"
_DEVELOP = "develop it to JPEG or TIFF"
_RENDER = "render it to PNG"
_FRAMES = "save the frames that you want labelled as JPEG"

#: Formats by their first bytes that are not decoded here: name, advice. HEIC is, once installed.
_FOREIGN = {
    "heic": ("HEIC", "install nightlabel[heif]"),
    "jxl": ("JPEG XL", _CONVERT),
    "jxr": ("JPEG XR", _CONVERT),
    "jls": ("JPEG-LS", _CONVERT),
    "jng": ("JNG", _CONVERT),
    "mng": ("MNG", _CONVERT),
    "bpg": ("BPG", _CONVERT),
    "flif": ("FLIF", _CONVERT),
    "exr": ("OpenEXR", _CONVERT),
    "hdr": ("Radiance HDR", _CONVERT),
    "dicom": ("DICOM", _CONVERT),
    "raf": ("Fujifilm raw (RAF)", _DEVELOP),
    "orf": ("Olympus raw (ORF)", _DEVELOP),
    "rw2": ("Panasonic raw (RW2)", _DEVELOP),
    "mrw": ("Minolta raw (MRW)", _DEVELOP),
    "x3f": ("Sigma raw (X3F)", _DEVELOP),
    "crw": ("Canon raw (CRW)", _DEVELOP),
    "cr3": ("Canon raw (CR3)", _DEVELOP),
    "svg": ("SVG", _RENDER),
    "xcf": ("GIMP's XCF", _RENDER),
    "djvu": ("DjVu", _RENDER),
    "pdf": ("PDF", "save its pages as PNG"),
    "mp4": ("MP4 video", _FRAMES),
    "mov": ("QuickTime video", _FRAMES),
    "mkv": ("Matroska or WebM video", _FRAMES),
    "mpeg": ("MPEG video", _FRAMES),
    "fli": ("FLI or FLC animation", _FRAMES),
    "eps": ("EPS", _RENDER),
    "wmf": ("WMF", _RENDER),
    "emf": ("EMF", _RENDER),
    "bufr": ("BUFR", _RENDER),
    "grib": ("GRIB", _RENDER),
    "hdf5": ("HDF5", _RENDER),
    "psd": ("PSD", _CONVERT),
    "ppm": ("PNM", _CONVERT),
    "iptc": ("IPTC", _CONVERT),
    "pcd": ("Photo CD", _CONVERT),
    "sun": ("Sun raster", _CONVERT),
    "gbr": ("GIMP brush", _CONVERT),
    "im": ("IFUNC IM", _CONVERT),
    "imt": ("IM Tools", _CONVERT),
    "xvthumb": ("XV thumbnail", _CONVERT),
}
#: Formats whose name in messages is simply their kind in capitals.
_FOREIGN |= {
    kind: (kind.upper(), _CONVERT)
    for kind in (
        *("blp", "cur", "dcx", "dds", "fits", "ftex", "icns", "ico", "mcidas", "msp", "pcx"),
        *("pixar", "qoi", "sgi", "spider", "tga", "xbm", "xpm"),
    )
}

#: Formats that Pillow decodes only if it was built with a library, by its name for that.
_LIBRARIES = {"jpeg": "jpg", "png": "zlib", "webp": "webp", "avif": "avif", "jp2": "jpg_2000"}

#: Formats whose Pillow name is not ours in upper case.
_NAMES = {"jp2": "JPEG2000", "heic": "HEIF"}

#: Frames of JPEG (T.81, table B.1; T.87) that libjpeg refuses.
_JPEG_FRAMES = dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG") | {
    0xCB: "lossless JPEG with arithmetic coding",
    0xF7: "JPEG-LS",
}


def out_of_memory() -> ImageError:
    """The error for a decoder that needs more memory than its process may have."""
    return ImageError(ErrorCode.CRASHED, "decoding this image ran out of memory")


def check_whole(image: Image.Image, data: bytes) -> None:
    """Refuse a file of which Pillow opened only a preview.

    Raises ImageError(unsupported).
    """
    if image.format != "TIFF":
        return
    if (whole := tiff.preview_of(data)) is not None:
        words = f"its first image, {tiff.first_size(data)}, is a preview of {whole}, which"
        raise _unsupported(f"{words} is", _DEVELOP)


def translated(error: BaseException, data: bytes) -> ImageError:
    """Maps Pillow's errors to our codes; no other place does."""
    if isinstance(error, MemoryError):
        return out_of_memory()
    if isinstance(error, Image.DecompressionBombError):
        return ImageError(ErrorCode.TOO_LARGE, str(error))
    kind = sniff(data)
    if isinstance(error, UnidentifiedImageError) and kind is None:
        return ImageError(ErrorCode.NOT_AN_IMAGE, "the content is of no known image format")
    if cut_short(data):
        return _truncated(kind)
    if kind is not None and (foreign := _foreign(kind, data)) is not None:
        return _unsupported(f"{foreign[0]} is", foreign[1])
    if _says_truncated(error):
        return _truncated(kind)
    if isinstance(error, UnidentifiedImageError):
        error = _refusal(kind or "", data) or error
    words = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, UnidentifiedImageError):
        words = f"the header of this {kind} cannot be read"
    if isinstance(error, NotImplementedError) or _NOT_KNOWN.search(words):
        return _unsupported(f"this sort of {kind or 'image'} ({words}) is", _CONVERT)
    return ImageError(ErrorCode.UNDECODABLE, words)


def _foreign(kind: str, data: bytes) -> tuple[str, str] | None:
    """(name, advice) of a valid file that this Pillow does not decode; None if it
    should decode it."""
    if kind in _FOREIGN and _plugin(kind) not in formats():
        return _FOREIGN[kind]
    if kind in _LIBRARIES and not features.check(_LIBRARIES[kind]):
        return f"{_plugin(kind)} (this Pillow lacks its decoder)", "install Pillow from PyPI"
    if kind == "tiff" and (sort := tiff.sort_not_decoded(data)) is not None:
        return sort, _DEVELOP if "raw" in sort else _CONVERT
    if (variant := _variant(kind, data)) is not None:
        return variant, _CONVERT
    return None


def _variant(kind: str, data: bytes) -> str | None:
    """A variant of a known format that Pillow's plugin does not support."""
    if kind == "jpeg":
        frames = (_JPEG_FRAMES.get(marker) for marker, _ in jpeg_segments(data))
        return next((frame for frame in frames if frame), None)
    if kind == "png":
        return "Apple's own form of PNG (CgBI)" if data[12:16] == b"CgBI" else None
    if kind == "jp2":
        channels = _jp2_channels(data)
        return f"JPEG 2000 with {channels} channels" if channels > 4 else None
    return None


def _jp2_channels(data: bytes) -> int:
    """Csiz of the first codestream (T.800, A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51")
    return int.from_bytes(data[at + 40 : at + 42], "big") if at >= 0 else 0


def _plugin(kind: str) -> str:
    return _NAMES.get(kind, kind.upper())


def _refusal(kind: str, data: bytes) -> BaseException | None:
    """The error of a format's plugin for a header, which `Image.open` does not pass on."""
    name = _plugin(kind)
    try:
        if name in formats():
            Image.OPEN[name][0](BytesIO(data), "")
    except PILLOW_ERRORS as error:
        return error
    return None


def _says_truncated(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, EOFError) or "truncated" in text or "not enough image data" in text


def _truncated(kind: str | None) -> ImageError:
    return ImageError(ErrorCode.TRUNCATED, f"{kind or 'the image'} ends too soon")


def _unsupported(what: str, advice: str) -> ImageError:
    return ImageError(ErrorCode.UNSUPPORTED, f"{what} not decoded here; {advice}")
