"""Networks from their configs: U-Nets of segmentation-models-pytorch, and a registry for others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from model.deferred_compiler import compiler_deferred
from model.errors import NetworkError
from model.pixel_net import ColourNet
from model.separation import Separation, building_probability, num_channels

MAX_ENCODER_DEPTH = 5


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What has to be known to build a network; its weights come from a bundle or from training."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    architecture: str = "unet"
    """`unet`, `colour` (see `model.pixel_net`), or a name given to `register_architecture`."""
    in_channels: int = 3
    """Number of bands."""
    encoder: str = "resnet34"
    """U-Net: encoder, any name that segmentation-models-pytorch knows."""
    encoder_depth: int = 5
    """U-Net: how often the encoder halves the image, 3 to 5."""
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    """U-Net: channels of the decoder's blocks, one for each level of the encoder."""
    decoder_attention: Literal["none", "scse"] = "none"
    """U-Net: attention in the decoder."""
    decoder_interpolation: Literal["nearest", "bilinear"] = "nearest"
    """U-Net: how the decoder doubles the image."""
    separation: Separation = "eroded"
    """U-Net: how neighbours are kept apart, and so what its channels are; `model.separation`."""
    border_exponent: float = 1.0
    """`separation: border`: how much borders count. Below 1, where neighbours are cut apart along
    valleys anyway, a border that is but half seen, as ridges of roofs are, costs less."""
    num_colours: int = 1
    """Colour network: number of roof colours."""
    kernel_px: int = 1
    """Colour network: side of the mean, odd."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.architecture not in _ARCHITECTURES:
            known = ", ".join(sorted(_ARCHITECTURES))
            raise ValueError(
                f"architecture = {self.architecture!r} is unknown; this version knows {known}"
            )
        for name in ("in_channels", "num_colours", "kernel_px"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}; expected at least 1")
        if self.kernel_px % 2 == 0:
            raise ValueError(f"kernel_px = {self.kernel_px}; expected an odd number")
        if not 0.0 < self.border_exponent <= 4.0:
            raise ValueError(
                f"border_exponent = {self.border_exponent}; expected above 0, at most 4"
            )
        if not 3 <= self.encoder_depth <= MAX_ENCODER_DEPTH:
            raise ValueError(f"encoder_depth = {self.encoder_depth}; expected 3 to 5")
        if len(self.decoder_channels) != self.encoder_depth or min(self.decoder_channels) < 1:
            raise ValueError(
                f"decoder_channels = {list(self.decoder_channels)}; expected "
                f"{self.encoder_depth} positive numbers, one for each level of the encoder"
            )

    def probability(self, logits: Tensor) -> Tensor:
        """The probability of a building's core, float32, shape (N, H, W), of the network's output.

        See `model.separation.building_probability`.
        """
        return building_probability(logits, self.separation, self.border_exponent)

    @property
    def stride_px(self) -> int:
        """The sides of a network input must be a multiple of this."""
        return _ARCHITECTURES[self.architecture].stride_px(self)

    @property
    def is_local(self) -> bool:
        """Whether an image amid missing ground gives the bits of the image alone.

        So it is where nothing but convolutions, poolings of what is not negative, and nearest
        neighbours look beyond a pixel: no mean over the whole image, no bilinear step.
        """
        return _ARCHITECTURES[self.architecture].is_local(self)


@dataclass(frozen=True)
class Architecture:
    """How to build one kind of network.

    Attributes:
        build: config to module. The module maps normalised images (N, bands, H, W) to logits
            (N, channels, H, W), see `model.separation`; it must not download anything.
        stride_px: config to the number that the sides of an input must be a multiple of.
        is_local: config to whether missing ground may be cut off, see `NetworkConfig.is_local`.
    """

    build: Callable[[NetworkConfig], nn.Module]
    stride_px: Callable[[NetworkConfig], int]
    is_local: Callable[[NetworkConfig], bool] = lambda config: False


def register_architecture(name: str, architecture: Architecture) -> None:
    """Make a further kind of network known under a name; a known name is replaced."""
    _ARCHITECTURES[name] = architecture


def build_network(config: NetworkConfig, *, encoder_weights: str | None = None) -> nn.Module:
    """Build a network.

    Args:
        config: what to build.
        encoder_weights: `imagenet` or another set that the encoder offers (a download), for
            training; None leaves the weights random and never touches the network.

    Raises:
        NetworkError: if the encoder is unknown or cannot be built like this.
    """
    if config.architecture == "unet":
        return _build_unet(config, encoder_weights)
    return _ARCHITECTURES[config.architecture].build(config)


def _build_unet(config: NetworkConfig, encoder_weights: str | None = None) -> nn.Module:
    # Here, since the import takes seconds and the colour network does without.
    with compiler_deferred():
        import segmentation_models_pytorch as smp

    attention = None if config.decoder_attention == "none" else config.decoder_attention
    try:
        return smp.Unet(
            config.encoder,
            encoder_depth=config.encoder_depth,
            encoder_weights=encoder_weights,
            decoder_channels=config.decoder_channels,
            decoder_attention_type=attention,
            decoder_interpolation=config.decoder_interpolation,
            in_channels=config.in_channels,
            classes=num_channels(config.separation),
        )
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error.args[0] if error.args else error)[:200]
        raise NetworkError(
            f"no U-Net can be built with encoder {config.encoder!r}, depth "
            f"{config.encoder_depth}, {config.in_channels} bands: {reason}"
        ) from error


def _is_local_unet(config: NetworkConfig) -> bool:
    is_decoder_local = (config.decoder_attention, config.decoder_interpolation) == (
        "none",
        "nearest",
    )
    return is_decoder_local and config.encoder in _LOCAL_ENCODERS


# Others squeeze and excite (a mean over the image), or nobody has looked.
_LOCAL_ENCODERS = frozenset(
    ["resnet18", "resnet34", "resnet50", *(f"tu-tf_efficientnet_lite{n}" for n in range(5))]
)

_ARCHITECTURES: dict[str, Architecture] = {
    "unet": Architecture(
        build=_build_unet,
        stride_px=lambda config: 2**config.encoder_depth,
        is_local=_is_local_unet,
    ),
    "colour": Architecture(
        build=lambda config: ColourNet(config.in_channels, config.num_colours, config.kernel_px),
        stride_px=lambda config: 1,
        is_local=lambda config: True,
    ),
}
