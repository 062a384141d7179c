"""Fine-tuning: a bundle, fitted to a few labels of one's own, in minutes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.bundle import load_bundle
from model.chip_pack import write_pack
from model.chips import ChipConfig
from model.errors import TrainingError
from model.source_config import CutConfig, DatasetConfig, PolygonSource
from model.sources import ReadReport, read_places
from model.train_config import ScheduleConfig, TargetConfig, TrainConfig
from model.training import TrainResult, train

_SOURCE = "labels"
_NUM_BANDS = 3
_CHECKPOINT_EVERY = 30
# Around the bundle's own pixel size: a fitted network is used at one.
_GSD_RANGE = (0.75, 1.35)


@dataclass(frozen=True, kw_only=True)
class FineTuneOptions:
    """How a bundle is fitted. The defaults suit some dozens to some hundreds of buildings."""

    steps: int = 120
    """Batches."""
    batch_size: int = 8
    """Chips a batch."""
    learning_rate: float = 3e-4
    """A third of what training from an encoder takes: the weights are nearly right."""
    frozen_stages: int = 2
    """Halvings of the encoder that do not learn: edges and textures are the same everywhere."""
    validation_share: float = 0.0
    """Share of each image's width that is held out; the best step there is kept. 0: all labels are
    learned from, and the last step is kept."""
    gsd_m: float | None = None
    """Pixel size that the result is for; None takes the bundle's."""
    seed: int = 0
    """Of every draw."""
    chips: ChipConfig = field(default_factory=ChipConfig)
    """Chips and augmentation; their pixel sizes are set around `gsd_m`."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 <= self.validation_share <= 0.8:
            raise ValueError(f"validation_share = {self.validation_share}; expected 0 to 0.8")
        if self.gsd_m is not None and not 0.02 <= self.gsd_m <= 50:
            raise ValueError(f"gsd_m = {self.gsd_m}; expected 0.02 to 50 metres")
        if self.frozen_stages < 0:
            raise ValueError(f"frozen_stages = {self.frozen_stages}; expected 0 or more")
        _schedule(self)


def fine_tune(
    bundle_path: Path,
    output: Path,
    options: FineTuneOptions,
    *,
    images: Sequence[str],
    labels: str = "{stem}.geojson",
    area: str | None = None,
    resume: bool = False,
) -> tuple[TrainResult, ReadReport]:
    """Fit a bundle to labelled images.

    Args:
        bundle_path: where to start; its network, colours and erosion stay.
        output: folder of the pack, logs and the new bundle, which is called after the old one.
        options: how.
        images: files or patterns.
        labels: file of each image's polygons, relative to its folder; {stem} is the image's name.
        area: file of the labelled ground, likewise; None: all of each image.
        resume: go on from the last checkpoint in the output folder.

    Returns:
        The training's result and what was read.

    Raises:
        BundleError: if the bundle cannot be used.
        SourceError: if images or labels cannot be used.
        TrainingError: if the bundle takes other bands than red, green and blue.
    """
    bundle = load_bundle(bundle_path)
    if len(bundle.meta.bands) != _NUM_BANDS:
        raise TrainingError(
            f"{bundle_path} takes the bands {', '.join(bundle.meta.bands)}; training reads red, "
            "green and blue only"
        )
    gsd_m = bundle.meta.gsd_m if options.gsd_m is None else options.gsd_m
    source = PolygonSource(
        name=_SOURCE,
        images=tuple(images),
        labels=labels,
        area=area,
        cut=_cuts(options.validation_share),
    )
    dataset = DatasetConfig(sources=(source,), store_gsd_m=gsd_m * _GSD_RANGE[0])
    places, report = read_places(dataset)
    output.mkdir(parents=True, exist_ok=True)
    pack = output / "labels.pack.zip"
    write_pack(pack, places)
    config = TrainConfig(
        pack=str(pack),
        output=str(output),
        name=f"{bundle.meta.name}-tuned",
        network=bundle.meta.network,
        init=str(bundle_path),
        frozen_stages=options.frozen_stages,
        mean=bundle.meta.mean,  # type: ignore[arg-type] # three bands, or reading would have failed
        std=bundle.meta.std,  # type: ignore[arg-type]
        targets=TargetConfig(erosion_px=bundle.meta.erosion_px),
        schedule=_schedule(options),
        chips=dataclasses.replace(
            options.chips, gsd_m=(_GSD_RANGE[0] * gsd_m, _GSD_RANGE[1] * gsd_m)
        ),
        validation_gsd_m=(gsd_m,),
        # A few labels say little of the threshold: it stays.
        validation_thresholds=(bundle.meta.threshold,),
        valley_depth=bundle.meta.valley_depth,
        gsd_m=gsd_m,
        seed=options.seed,
    )
    return train(config, resume=resume), report


def _cuts(share: float) -> dict[str, CutConfig]:
    """Every image is cut, if anything is held out."""
    return {} if share == 0.0 else {"*": CutConfig(axis="x", at=1.0 - share, gap_m=10.0)}


def _schedule(options: FineTuneOptions) -> ScheduleConfig:
    is_held_out = options.validation_share > 0.0
    return ScheduleConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        # The average spans the last tenth of the steps.
        ema_decay=max(0.0, 1.0 - 10.0 / max(options.steps, 1)),
        checkpoint_every=_CHECKPOINT_EVERY,
        validate_every=max(1, options.steps // 4) if is_held_out else options.steps,
    )
