"""TrainConfig: everything that decides a training, composed of the configs beside their code."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from geo.rim import Confidence
from model.chips import ChipConfig, Strength
from model.losses import LossConfig
from model.mixup import MixupConfig
from model.regularisation import RegularisationConfig
from model.unet import NetworkConfig

VALIDATION_THRESHOLDS = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


@dataclass(frozen=True, kw_only=True)
class EdgeConfig:
    """Weights of edges. PAPER.md (M): Gaussian, sigma 3 px; its c = 200 is of another scale."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Literal["gaussian", "unet"] = "gaussian"
    """`gaussian`: instance edges, blurred. `unet`: distances to the two nearest buildings, on the
    CPU, one transform a building (Ronneberger et al. 2015: sigma 5, amplitude 10)."""
    sigma_px: float = 3.0
    """Of either."""
    amplitude: float = 20.0
    """See `model.edge_weights`; 20 gives a straight edge 2.7 with `gaussian`. 0: none."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.1 <= self.sigma_px <= 50.0:
            raise ValueError(f"sigma_px = {self.sigma_px}; expected 0.1 to 50")
        if not 0.0 <= self.amplitude <= 1e4:
            raise ValueError(f"amplitude = {self.amplitude}; expected 0 to 10000")


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """What the channels are asked for."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    erosion_px: int = 1
    """Erosion of the instances, and growing back after merging. PAPER.md (M): about 1."""
    border_px: int = 2
    """`border`: half the width of the band between buildings."""
    distance_px: int = 5
    """`distance`: depth at which the second channel reaches 1."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Steps and learning rate."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    steps: int = 3000
    """Batches."""
    batch_size: int = 12
    """Chips a batch and process. PAPER.md (M): 128."""
    learning_rate: float = 1e-3
    """Highest of a one-cycle schedule. PAPER.md (M): Adam, 1e-3."""
    weight_decay: float = 1e-2
    """Of AdamW."""
    warmup_share: float = 0.1
    """Share of the steps in which the rate rises."""
    clip_norm: float = 5.0
    """Largest norm of a gradient."""
    ema_decay: float = 0.998
    """Of the averaged weights, which are validated and exported; less in the first steps."""
    validate_every: int = 250
    """Steps between validations, and between checkpoints."""
    checkpoint_every: int | None = None
    """Steps between checkpoints to resume from. None: as often as it validates."""
    patience: int | None = None
    """The training ends when so many validations in a row brought no better score. None: never."""
    max_minutes: float | None = None
    """The training ends then, wherever the schedule stands. None: never."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("steps", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}; expected at least 1")
        for name in ("patience", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}; expected at least 1, or none")
        if not 0.0 < self.learning_rate <= 1.0:
            raise ValueError(f"learning_rate = {self.learning_rate}; expected above 0, at most 1")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay = {self.ema_decay}; expected 0 to below 1")
        if not 0.0 < self.warmup_share < 1.0:
            raise ValueError(f"warmup_share = {self.warmup_share}; expected between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How a student learns from its teacher on unlabelled ground."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    batch_size: int = 6
    """Unlabelled chips that go with each batch."""
    weight: float = 1.0
    """Factor of their loss."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size = {self.batch_size}; expected at least 1")
        if not 0.0 <= self.weight <= 1000.0:
            raise ValueError(f"weight = {self.weight}; expected 0 to 1000")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    pack: str
    """The chip pack (`everyroof pack`)."""
    output: str
    """Folder of checkpoints, logs and the bundle."""
    name: str = "everyroof"
    """Name of the bundle."""
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(encoder="resnet18"))
    """The network."""
    encoder_weights: str = "none"
    """`imagenet` (an installed package or a download), `none`, or a file: a state dict of the
    encoder. See `model.encoder_weights`."""
    frozen_stages: int = 0
    """How many halvings of the encoder do not learn, from the image on."""
    has_frozen_norms: bool = False
    """Whether batch normalisation keeps the statistics that it starts with; their means over a few
    chips of one place would be worse. Their factors learn on."""
    init: str | None = None
    """A bundle or a plain state dict (.safetensors) to start from."""
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    """Subtracted from level / 255."""
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Divides what is left."""
    chips: ChipConfig = field(default_factory=ChipConfig)
    """Chips and augmentation."""
    strength: Strength = "weak"
    """How strongly colours are changed: `none`, `weak` or `strong`; students take `strong`."""
    regularisation: RegularisationConfig = field(default_factory=RegularisationConfig)
    """Dropout and stochastic depth."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    """Unlabelled ground, where there is any (`everyroof self-train`)."""
    targets: TargetConfig = field(default_factory=TargetConfig)
    """Targets."""
    edges: EdgeConfig = field(default_factory=EdgeConfig)
    """Edge weights."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Loss."""
    mixup: MixupConfig = field(default_factory=MixupConfig)
    """mixup."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Steps and learning rate."""
    validation_gsd_m: tuple[float, ...] = (0.3, 0.5)
    """Pixel sizes at which validation places are scored."""
    validation_thresholds: tuple[float, ...] = VALIDATION_THRESHOLDS
    """Thresholds of the probability that are tried there; the bundle gets the best."""
    valley_depth: float = 0.35
    """Neighbours are cut apart where the probability falls by this much between them; 0: nowhere.
    It becomes the bundle's. See `geo.watershed`; 0.3 and 0.4 score alike."""
    confidence: Confidence = "contrast"
    """How footprints are ranked in validation, and the bundle's; see `model.bundle`."""
    gsd_m: float = 0.3
    """Pixel size that the bundle recommends."""
    precision: Literal["bf16-mixed", "32-true", "16-mixed"] = "bf16-mixed"
    """Of Lightning."""
    seed: int = 0
    """Every chip, augmentation and mixup draw is a function of it, the step and the index."""
    num_loaders: int = 1
    """Processes that cut chips."""
    num_devices: int = 1
    """GPUs that train together (DDP), each with a batch of its own."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.num_devices < 1:
            raise ValueError(f"num_devices = {self.num_devices}; expected at least 1")
        for name in ("num_loaders", "frozen_stages"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}; expected 0 or more")
        if not self.validation_thresholds or not all(0 < t < 1 for t in self.validation_thresholds):
            raise ValueError(
                f"validation_thresholds = {list(self.validation_thresholds)}; expected at least "
                "one, all between 0 and 1"
            )
        if not 0.0 <= self.valley_depth < 1.0:
            raise ValueError(f"valley_depth = {self.valley_depth}; expected 0 to below 1")
        stride_px = self.network.stride_px
        if self.chips.size_px % stride_px:
            raise ValueError(
                f"chips.size_px = {self.chips.size_px}; expected a multiple of {stride_px}, the "
                "network's stride"
            )
