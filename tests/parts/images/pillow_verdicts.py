"""The error codes that are right for Pillow's own test images, judged file by file.

Everything that is not named here is an image and must get a label.
"""

from fnmatch import fnmatchcase
from typing import Final

_STRANGERS: Final = (
    *("ara", "blp", "cur", "dcx", "dds", "eps", "fits", "flc", "fli", "ftc", "ftu", "gbr", "icns"),
    *("ico", "im", "im1", "imt", "msp", "p7", "pcd", "pcx", "pfm", "pgm", "pnm", "ppm"),
    *("psd", "pxr", "qoi", "ras", "rgb", "sgi", "spider", "tga", "xbm", "xpm"),
)

#: Code → globs of names below Tests/images; the first that fits holds.
_CODES: Final[dict[str, tuple[str, ...]]] = {
    # Palettes, fonts, texts, and formats that no signature tells.
    "not_an_image": (
        "*.bdf",
        "*.container",
        "*.doc",
        "*.fpx",
        "*.ggr",
        "*.gnuplot",
        "*.gpl",
        "*.lut",
        "*.mic",
        "*.pil",
        "*.pkl",
        "*.txt",
        "fli_oob/*/notes",
        "fli_oob/*/reproducing",
        "hopper.gd",
        "hopper.tar",
        "hopper.wal",
        "invalid.spider",
        "negative_size.ppm",
        "ossfuzz-4836216264589312.pcx",
        "p_8.tga",
        "pngtest_bad.png.bin",
    ),
    "too_large": (
        "decompression_bomb.gif",
        "bmp/b/badwidth.bmp",
        "bmp/b/reallybig.bmp",
    ),
    # Formats that are not decoded here, whole or broken, and sorts that Pillow does not know.
    "unsupported": (
        *(f"*.{suffix}" for suffix in _STRANGERS),
        "fli_oob/*/00000?",
        "fli_overrun*.bin",
        "hopper.bw",
        "hopper_1bit*.pbm",
        "pcx_overrun*.bin",
        "raw_negative_stride.bin",
        "sgi_*.bin",
        "*.emf",
        "*.wmf",
        "*.grb",
        "*.h5",
        "*.bufr_d",
        "*.pdf",
        "hopper_webp.tif",
        "unknown_mode.j2k",
        "avif/hopper.heif",
        "hopper_unknown_pixel_mode.tif",
        "bmp/b/badbitcount.bmp",
        "bmp/b/badheadersize.bmp",
        "bmp/b/badpalettesize.bmp",
        "bmp/g/rgb32bf.bmp",
        "bmp/q/pal2.bmp",
        "bmp/q/pal8os2v2-16.bmp",
        "bmp/q/rgb16-231.bmp",
        "bmp/q/rgb24jpeg.bmp",
        "bmp/q/rgb24png.bmp",
        "bmp/q/rgb32-111110.bmp",
        "bmp/q/rgba16-4444.bmp",
        "bmp/q/rgba32abf.bmp",
    ),
    "truncated": (
        "00r0_gray_l.jp2",
        "balloon_eciRGBv2_aware.jp2",
        "bmp/b/shortfile.bmp",
        "broken.png",
        "broken_data_stream.png",
        "l2rgb_read.bmp",
        "not_enough_data.jp2",
        "seek_too_large.tif",
        "timeout-6646305047838720",
        "truncated_end_chunk.png",
        "truncated_image.png",
        "truncated_jpeg.jpg",
        "ultrahdr.jpg",
        "unbound_variable.jp2",
        "zero_width.gif",
    ),
    "undecodable": (
        "00r1_graya_la.jp2",
        "apng/chunk_no_fctl.png",
        "apng/syntax_num_frames_zero.png",
        "bmp/q/pal8oversizepal.bmp",
        "crash-*.j2k",
        "expected_to_read.jp2",
        "invalid_header_length.jp2",
        "libtiff_segfault.tif",
        "oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif",
        "png_decompression_dos.png",
        "tiff_overflow_rows_per_strip.tif",
        "tiff_tiled_jpeg_oob_read.tif",
        "unknown_compression_method.png",
        "zero_height.j2k",
    ),
}


def judged(name: str) -> str | None:
    """The code that is right for the file of this name below Tests/images, None if a label is."""
    for code, globs in _CODES.items():
        if any(fnmatchcase(name, glob) for glob in globs):
            return code
    return None
