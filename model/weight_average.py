"""Means of weights: bundles of one origin, averaged tensor by tensor.

Networks that were trained on from the same weights mostly lie in one basin of the loss, and their
mean does better on new ground than each of them, at no cost when it runs. Sources: Wortsman et al.,
"Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time", ICML 2022; for a fitted network and the one that it came from, Wortsman et al.,
"Robust fine-tuning of zero-shot models", CVPR 2022.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from model.bundle import Bundle, BundleMeta
from model.errors import BundleError

_SUM_TOLERANCE = 1e-6
# What has to be equal for a mean of weights, and what is said of it, to mean anything.
_SHARED_FIELDS = (
    *("network", "bands", "mean", "std", "erosion_px"),
    *("gsd_m", "valley_depth", "confidence"),
)


def average_bundles(
    bundles: Sequence[Bundle], shares: Sequence[float]
) -> tuple[BundleMeta, dict[str, Tensor]]:
    """The mean of bundles.

    Args:
        bundles: of the same network, colours and erosion.
        shares: of each, from 0 on; they add up to 1.

    Returns:
        The first one's metadata, without its calibration; its provenance is what all say alike,
        and `mean_of`. And the weights, in the first one's types.

    Raises:
        BundleError: if shares or bundles do not fit each other.
    """
    first = bundles[0].meta
    for other in bundles[1:]:
        for name in _SHARED_FIELDS:
            values = getattr(first, name), getattr(other.meta, name)
            if values[0] != values[1]:
                raise BundleError(
                    f"{other.meta.name!r} has {name} = {values[1]}, {first.name!r} has "
                    f"{values[0]}; only bundles that are alike but for their weights can be "
                    "averaged (everyroof bundle change)"
                )
    state = average_states([bundle.state_dict for bundle in bundles], shares)
    parts = [
        {
            "name": bundle.meta.name,
            "sha256": bundle.sha256,
            "share": share,
            "provenance": bundle.meta.provenance,
        }
        for bundle, share in zip(bundles, shares, strict=True)
    ]
    alike = {
        key: value
        for key, value in first.provenance.items()
        if all(key in b.meta.provenance and b.meta.provenance[key] == value for b in bundles)
    }
    meta = dataclasses.replace(first, calibration=(), provenance={**alike, "mean_of": parts})
    return meta, state


def average_states(
    states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]
) -> dict[str, Tensor]:
    """The weighted mean of state dicts with equal names and shapes, added up in float64.

    Counters and other whole numbers are the first one's.

    Raises:
        BundleError: if the shares are not as many, or do not add up to 1.
    """
    if len(shares) != len(states) or not all(share >= 0 for share in shares):
        raise BundleError(
            f"shares = {list(shares)}; expected {len(states)} numbers from 0 on, one a bundle"
        )
    if not math.isclose(sum(shares), 1.0, abs_tol=_SUM_TOLERANCE):
        raise BundleError(f"shares = {list(shares)} add up to {sum(shares):g}; expected 1")
    mean: dict[str, Tensor] = {}
    for name, tensor in states[0].items():
        if not tensor.is_floating_point():
            mean[name] = tensor
            continue
        total = torch.zeros(tensor.shape, dtype=torch.float64)
        for state, share in zip(states, shares, strict=True):
            total += share * state[name].to(torch.float64)
        mean[name] = total.to(tensor.dtype)
    return mean
