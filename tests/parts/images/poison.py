"""Images and processes that do what bugs in decoders, models and drivers do.

Python imports a sitecustomize before all else, so that every process has the poison that
finds it on its path: workers of Ray as well as their children.
"""

import os
from collections.abc import Mapping
from pathlib import Path

#: Decoders: images that Pillow takes for BMP, and that say what happens to who opens them.
#: Models: an image that is all of one colour, as the model sees it, says what happens.
PLUGIN = """
import ctypes, os, signal, sys
from pathlib import Path

def _deed(deed):
    if deed == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if deed == "exit":
        os._exit(1)
    if deed == "hang":  # in C, and with Python's lock held
        ctypes.PyDLL(None).sleep(3600)
    if deed == "allocate":
        hoard = []
        while True:
            hoard.append(bytearray(64 << 20))
    if deed == "lose":  # the device, as PyTorch tells it
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

def _open(file, filename):
    _, deed, *told = file.read().split()
    if told:
        Path(told[0].decode()).write_text(str(os.getpid()))
    _deed(deed.decode())

def _into_pillow():
    from PIL import BmpImagePlugin, Image
    open_bmp, is_bmp = Image.OPEN["BMP"]

    def is_poison(prefix):
        return prefix.startswith(b"POISON ")

    def open_either(file, filename):
        poisonous = is_poison(file.read(16))
        file.seek(0)
        return (_open if poisonous else open_bmp)(file, filename)

    Image.register_open("BMP", open_either, lambda prefix: is_poison(prefix) or is_bmp(prefix))

def _into_engine(engine, runs, proves):
    run = getattr(engine, runs)
    pairs = [pair.split(":") for pair in os.environ["POISONED_COLOURS"].split(",")]

    def poisoned(self, pixels, **how):
        for image in pixels:
            low, high = int(image.min()), int(image.max())
            for colour, deed in pairs:
                if self._proved and abs(low - int(colour)) <= 2 and high - low <= 2:
                    _deed(deed)
        self._proved = True
        return run(self, pixels, **how)

    engine._proved = not proves
    setattr(engine, runs, poisoned)

_into_pillow()
if os.environ.get("POISONED_COLOURS"):
    import importlib.abc, importlib.util

    #: The engines of both runtimes, what runs a batch there, and whether the first one only tries
    #: the network.
    ENGINES = {
        "pipeline.models.backends.torch_engine": ("TorchEngine", "_queued", True),
        "pipeline.models.backends.openvino_engine": ("OpenVinoEngine", "_run", False),
    }

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name not in ENGINES:
                return None
            engine, runs, proves = ENGINES.pop(name)
            spec = importlib.util.find_spec(name)
            load = spec.loader.exec_module
            def exec_module(module):
                load(module)
                _into_engine(getattr(module, engine), runs, proves)
            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Finder())
"""


def poison(deed: str, told: Path | None = None) -> bytes:
    """The bytes of an image that does `deed`: segfault, exit, hang or allocate.

    Before it does, it writes its process's pid to `told`.
    """
    return f"POISON {deed} {told or ''}".strip().encode()


def poisoned(folder: Path, colours: Mapping[int, str] | None = None) -> dict[str, str]:
    """An environment whose processes suffer; `colours` are grey images that end predictors."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(PLUGIN)
    marked = ",".join(f"{colour}:{deed}" for colour, deed in (colours or {}).items())
    return {**os.environ, "PYTHONPATH": str(folder), "POISONED_COLOURS": marked}
