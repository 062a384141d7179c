"""Kinds of roofs and their colours, as a style mixes them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.drawing.scene_plan import Material, Rgb, RoofKind

PALETTES: Mapping[Material, tuple[Rgb, ...]] = {
    "zinc": ((206, 211, 214), (222, 226, 228), (183, 190, 196), (160, 166, 170), (236, 238, 236),
             (172, 176, 174), (196, 206, 216), (143, 146, 148)),
    "painted": ((58, 112, 178), (74, 138, 196), (44, 92, 150), (162, 58, 52), (132, 44, 46),
                (188, 92, 84), (70, 122, 92), (42, 92, 84), (112, 168, 186), (150, 92, 62),
                (96, 160, 190), (176, 176, 120)),
    "rusty": ((136, 96, 74), (118, 84, 68), (150, 116, 94), (104, 82, 72), (164, 138, 118),
              (126, 108, 98)),
    "tiles": ((152, 92, 68), (134, 82, 64), (116, 78, 64), (168, 104, 74), (98, 74, 64),
              (124, 98, 84), (146, 110, 92), (178, 122, 92)),
    "shingle": ((86, 84, 84), (104, 98, 94), (122, 116, 112), (74, 76, 80), (132, 118, 104)),
    "concrete": ((176, 172, 164), (158, 154, 146), (194, 190, 182), (140, 134, 126),
                 (168, 158, 144), (206, 204, 200), (150, 148, 146), (184, 170, 152)),
    "adobe": ((186, 158, 122), (172, 142, 108), (198, 174, 140), (158, 132, 104)),
    "thatch": ((142, 124, 92), (120, 106, 82), (104, 94, 78), (158, 140, 102), (88, 80, 68)),
    "membrane": ((212, 212, 208), (176, 178, 180), (110, 112, 116), (228, 226, 218)),
}  # fmt: skip
"""Base colours of roofs, as they look in sunlit aerial images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoofChoice:
    """A form of roof, what covers it and the ranges of its measures."""

    roof: RoofKind
    material: Material
    eave_m: tuple[float, float]
    slope: tuple[float, float] = (0.0, 0.0)


ROOFS: Mapping[str, RoofChoice] = {
    "zinc_gable": RoofChoice(roof="gable", material="zinc", eave_m=(2.4, 3.8), slope=(0.15, 0.5)),
    "zinc_shed": RoofChoice(roof="shed", material="zinc", eave_m=(2.1, 3.2), slope=(0.06, 0.2)),
    "zinc_hip": RoofChoice(roof="hip", material="zinc", eave_m=(2.6, 3.8), slope=(0.25, 0.55)),
    "rusty_gable": RoofChoice(roof="gable", material="rusty", eave_m=(2.2, 3.4), slope=(0.2, 0.5)),
    "rusty_shed": RoofChoice(roof="shed", material="rusty", eave_m=(2.0, 3.0), slope=(0.05, 0.2)),
    "painted_gable": RoofChoice(
        roof="gable", material="painted", eave_m=(2.6, 5.0), slope=(0.15, 0.5)
    ),
    "painted_hip": RoofChoice(roof="hip", material="painted", eave_m=(2.8, 5.5), slope=(0.3, 0.6)),
    "painted_shed": RoofChoice(
        roof="shed", material="painted", eave_m=(2.4, 6.0), slope=(0.05, 0.2)
    ),
    "tiles_gable": RoofChoice(roof="gable", material="tiles", eave_m=(2.6, 6.0), slope=(0.4, 0.75)),
    "tiles_hip": RoofChoice(roof="hip", material="tiles", eave_m=(2.6, 6.0), slope=(0.4, 0.7)),
    "shingle_hip": RoofChoice(roof="hip", material="shingle", eave_m=(2.8, 5.5), slope=(0.3, 0.6)),
    "shingle_gable": RoofChoice(
        roof="gable", material="shingle", eave_m=(2.8, 5.5), slope=(0.3, 0.6)
    ),
    "concrete_flat": RoofChoice(roof="flat", material="concrete", eave_m=(3.2, 7.0)),
    "concrete_high": RoofChoice(roof="flat", material="concrete", eave_m=(6.0, 16.0)),
    "adobe_flat": RoofChoice(roof="flat", material="adobe", eave_m=(2.6, 4.0)),
    "thatch_cone": RoofChoice(roof="cone", material="thatch", eave_m=(1.6, 2.2), slope=(0.6, 1.0)),
    "thatch_gable": RoofChoice(
        roof="gable", material="thatch", eave_m=(1.8, 2.4), slope=(0.5, 0.9)
    ),
    "thatch_hip": RoofChoice(roof="hip", material="thatch", eave_m=(1.8, 2.4), slope=(0.5, 0.9)),
    "membrane_flat": RoofChoice(roof="flat", material="membrane", eave_m=(4.0, 11.0)),
    "hall_gable": RoofChoice(roof="gable", material="zinc", eave_m=(5.0, 10.0), slope=(0.08, 0.2)),
    "hall_painted": RoofChoice(
        roof="gable", material="painted", eave_m=(5.0, 10.0), slope=(0.08, 0.2)
    ),
    "hall_vault": RoofChoice(roof="vault", material="zinc", eave_m=(4.5, 8.0), slope=(0.3, 0.6)),
    "hall_sawtooth": RoofChoice(
        roof="sawtooth", material="rusty", eave_m=(5.0, 8.0), slope=(0.3, 0.5)
    ),
}


def choose(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """A key, drawn by its weight."""
    left = float(rng.random()) * sum(weights.values())
    for name, weight in weights.items():
        left -= weight
        if left < 0:
            return name
    return list(weights)[-1]


def choose_colour(rng: np.random.Generator, material: Material) -> Rgb:
    """A base colour of a material: one of its palette, shifted in brightness and hue."""
    palette = PALETTES[material]
    base = np.array(palette[int(rng.integers(len(palette)))])
    colour = base * rng.normal(1.0, 0.07) + rng.normal(0.0, 4.0, 3)
    red, green, blue = np.clip(colour, 20, 250)
    return float(red), float(green), float(blue)
