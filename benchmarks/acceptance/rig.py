"""What acceptance measures with: a GPU, or a device that sleeps and small numbers."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks import inputs


@dataclass(frozen=True)
class Rig:
    """`images` of a run are names of `distinct` files, of which `sample` are also labelled on the
    CPU in fp32. `rate`: images a second of the simulated device, 0 for a GPU. `seconds`: how long
    each way is measured."""

    name: str
    images: int
    distinct: int
    sample: int
    rate: int
    seconds: float

    @property
    def simulated(self) -> bool:
        return self.rate > 0

    def folder(self) -> Path:
        return inputs.names_of(inputs.synthetic_jpegs(self.distinct), self.images)

    def model(self) -> Path:
        """The network of a whole run."""
        return inputs.vit_tiny() if self.simulated else inputs.vit_base()


GPU = Rig("gpu", images=60_000, distinct=1_000, sample=512, rate=0, seconds=2.0)
#: Fast enough for a block of 1,024 rows, as a GPU is that labels 10,000 a second with a ViT-B/16.
SIMULATED = Rig("simulated", images=120, distinct=60, sample=60, rate=10_000, seconds=0.5)
RIGS = {rig.name: rig for rig in (GPU, SIMULATED)}
