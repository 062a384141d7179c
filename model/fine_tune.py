"""Fine-tuning: a bundle, fitted to a few labels of one's own, in minutes.

The result lies between the old weights and the fitted ones. A few labels teach what roofs and soils
look like here, and make a network forget what it knew of all that they do not show; halfway, most
of both is there. Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.bundle import Bundle, load_bundle, save_bundle
from model.chip_pack import write_pack
from model.chips import ChipConfig
from model.errors import TrainingError
from model.losses import LossConfig
from model.places import Place
from model.source_config import CutConfig, DatasetConfig, PolygonSource
from model.sources import ReadReport, read_places
from model.train_config import ScheduleConfig, TargetConfig, TrainConfig
from model.training import TrainResult, train
from model.validation import score_bundle
from model.weight_average import average_bundles

_SOURCE = "labels"
_NUM_BANDS = 3
_CHECKPOINT_EVERY = 30
# Around the bundle's own pixel size: a fitted network is used at one.
_GSD_RANGE = (0.75, 1.35)
# Ridges of roofs that are new to a network look like borders to it: they have to cost something.
_INSIDE_WEIGHT = 3.0
# The first is taken where nothing tells them apart.
_KEPT_SHARES = (0.5, 0.25, 0.75, 0.0)
_FITTED, _TUNED = "-fitted", "-tuned"


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
    """Share of each image's width that is held out; the best step there is taken. 0: all labels are
    learned from, and the last step is taken."""
    kept_share: float | None = None
    """Share of the old weights in the result; the fitted ones have the rest. None: the best of 0 to
    0.75 on what is held out, 0.5 where nothing is."""
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
        if self.kept_share is not None and not 0.0 <= self.kept_share < 1.0:
            raise ValueError(f"kept_share = {self.kept_share}; expected 0 to below 1")
        if self.gsd_m is not None and not 0.02 <= self.gsd_m <= 50:
            raise ValueError(f"gsd_m = {self.gsd_m}; expected 0.02 to 50 metres")
        if self.frozen_stages < 0:
            raise ValueError(f"frozen_stages = {self.frozen_stages}; expected 0 or more")
        _schedule(self)


@dataclass(frozen=True, kw_only=True)
class FineTuneResult:
    """What fine-tuning gave.

    Attributes:
        training: with the path of the result, and its AP50 on held out ground.
        kept_share: share of the old weights in it.
        old_ap50: of the old weights there; NaN where nothing is held out.
    """

    training: TrainResult
    kept_share: float
    old_ap50: float


def fine_tune(
    bundle_path: Path,
    output: Path,
    options: FineTuneOptions,
    *,
    images: Sequence[str],
    labels: str = "{stem}.geojson",
    area: str | None = None,
    resume: bool = False,
) -> tuple[FineTuneResult, ReadReport]:
    """Fit a bundle to labelled images.

    Args:
        bundle_path: where to start; its network, colours and erosion stay.
        output: folder of the pack, logs and two bundles called after the old one: NAME-fitted with
            the fitted weights, and NAME-tuned with the result.
        options: how.
        images: files or patterns.
        labels: file of each image's polygons, relative to its folder; {stem} is the image's name.
        area: file of the labelled ground, likewise; None: all of each image.
        resume: go on from the last checkpoint in the output folder.

    Returns:
        The result and what was read.

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
        name=f"{bundle.meta.name}{_FITTED}",
        network=bundle.meta.network,
        init=str(bundle_path),
        frozen_stages=options.frozen_stages,
        mean=bundle.meta.mean,  # type: ignore[arg-type] # three bands, or reading would have failed
        std=bundle.meta.std,  # type: ignore[arg-type]
        targets=TargetConfig(erosion_px=bundle.meta.erosion_px),
        loss=LossConfig(inside_weight=_INSIDE_WEIGHT),
        schedule=_schedule(options),
        chips=dataclasses.replace(
            options.chips, gsd_m=(_GSD_RANGE[0] * gsd_m, _GSD_RANGE[1] * gsd_m)
        ),
        validation_gsd_m=(gsd_m,),
        # A few labels say little of the threshold: it stays.
        validation_thresholds=(bundle.meta.threshold,),
        valley_depth=bundle.meta.valley_depth,
        confidence=bundle.meta.confidence,
        gsd_m=gsd_m,
        seed=options.seed,
    )
    result = train(config, resume=resume)
    held_out = [place for place in places if place.split == "validation"]
    return _mix_with_old(bundle, result, options.kept_share, held_out), report


def _mix_with_old(
    old: Bundle, result: TrainResult, kept_share: float | None, held_out: Sequence[Place]
) -> FineTuneResult:
    """Write the bundle between the old weights and the fitted ones."""
    fitted = load_bundle(result.bundle)

    def mixed(share: float) -> Bundle:
        _, state = average_bundles([fitted, old], (1.0 - share, share))
        return Bundle(fitted.meta, state, sha256="")

    def score(bundle: Bundle) -> float:
        if not held_out:
            return float("nan")
        thresholds, gsd_m = (bundle.meta.threshold,), (bundle.meta.gsd_m,)
        return score_bundle(bundle, held_out, gsd_m=gsd_m, thresholds=thresholds).ap50

    shares = _KEPT_SHARES[:1] if kept_share is None and not held_out else _KEPT_SHARES
    tried = (kept_share,) if kept_share is not None else shares
    scores = [score(mixed(share)) for share in tried]
    # NaN, where there is nothing to score, loses every comparison; of equals the first one wins.
    best = max(range(len(tried)), key=lambda k: (scores[k] if scores[k] >= 0 else -1.0, -k))
    share, ap50, old_ap50 = tried[best], scores[best], score(old)
    known = {"kept_share": share, "validation_ap50": round(ap50, 4) if ap50 >= 0 else None}
    provenance = {**fitted.meta.provenance, **known}
    name = fitted.meta.name.removesuffix(_FITTED) + _TUNED
    path = result.bundle.with_name(f"{name}.safetensors")
    meta = dataclasses.replace(fitted.meta, name=name, provenance=provenance)
    save_bundle(path, meta, mixed(share).state_dict)
    tuned = dataclasses.replace(result, bundle=path, best_ap50=ap50)
    return FineTuneResult(training=tuned, kept_share=share, old_ap50=old_ap50)


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
