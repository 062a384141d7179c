"""Kinds of settlements: what their streets, blocks, roofs and ground are made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from model.drawing.scene_plan import Rgb

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A kind of settlement.

    Attributes:
        block_m: lengths of blocks along the first axis.
        depth_m: their depths.
        street_m: breadths of streets.
        paved: share of streets with asphalt.
        missing: share of street pieces that are not there.
        bend: how far streets swing, as a share of a block.
        blocks: weights of what fills a block, by the names in `blocks.FILLERS`.
        roofs: weights of roofs of houses, by the names in `roof_choices.ROOFS`.
        house_m: lengths of houses.
        aspect: breadth over length.
        parcel_m: breadths of parcels.
        jitter: standard deviation of the angle of houses against their street, radians.
        gap_m: smallest gaps between houses of informal blocks.
        wear: how worn roofs are.
        walled: share of parcels with a wall.
        trees_ha: trees per hectare, beside those of blocks.
        scrub_ha: small bushes per hectare.
        litter: small odd things on the ground per building.
        paths_ha: footpaths per hectare.
        tree_m: radii of crowns.
        palms: share of palms.
        green: how much of the ground is covered by plants, 0 to 1.
        soils: colours of bare soil.
        grasses: colours of plants on the ground.
        cars_ha: vehicles per hectare of street.
    """

    block_m: Range = (50, 90)
    depth_m: Range = (36, 56)
    street_m: Range = (5, 9)
    paved: float = 0.4
    missing: float = 0.1
    bend: float = 0.05
    blocks: Mapping[str, float]
    roofs: Mapping[str, float]
    house_m: Range = (8, 15)
    aspect: Range = (0.5, 0.95)
    parcel_m: Range = (14, 22)
    jitter: float = 0.03
    gap_m: Range = (0.0, 1.2)
    wear: Range = (0.0, 0.6)
    walled: float = 0.3
    trees_ha: float = 20
    scrub_ha: float = 150
    litter: float = 2.0
    paths_ha: float = 1.0
    tree_m: Range = (1.2, 4.0)
    palms: float = 0.1
    green: float = 0.5
    soils: tuple[Rgb, ...]
    grasses: tuple[Rgb, ...]
    cars_ha: float = 8


# Worn and dusty, then fresh: Munsell 2.5YR 4/6, 5/8 and 5YR 5/8, 6/6, the hues of laterite.
LATERITE: tuple[Rgb, ...] = (
    (162, 120, 92), (180, 140, 108), (146, 108, 84), (190, 156, 124),
    (143, 82, 55), (183, 95, 57), (173, 103, 53), (193, 136, 93),
)  # fmt: skip
SAND: tuple[Rgb, ...] = ((206, 182, 142), (190, 164, 126), (218, 198, 162), (178, 152, 118))
EARTH: tuple[Rgb, ...] = ((158, 140, 114), (176, 156, 126), (138, 122, 102), (190, 174, 148))
GREY: tuple[Rgb, ...] = ((150, 146, 138), (168, 162, 150), (134, 128, 120), (182, 174, 162))
LUSH: tuple[Rgb, ...] = ((84, 112, 52), (98, 124, 62), (70, 98, 50), (116, 134, 76))
OLIVE: tuple[Rgb, ...] = ((116, 118, 70), (132, 130, 84), (100, 106, 62), (146, 140, 98))
DRY: tuple[Rgb, ...] = ((160, 148, 102), (146, 138, 92), (176, 160, 116), (128, 126, 84))

STYLES: Mapping[str, Style] = {
    "informal": Style(
        block_m=(45, 110), depth_m=(40, 90), street_m=(3, 7), paved=0.15, missing=0.25, bend=0.18,
        blocks={"informal": 8, "parcels": 1, "school": 0.3, "open": 0.4, "grove": 0.3},
        roofs={"zinc_gable": 4, "zinc_shed": 4, "rusty_gable": 3, "rusty_shed": 3,
               "painted_gable": 0.7, "concrete_flat": 0.8, "zinc_hip": 0.8},
        house_m=(3.5, 11), aspect=(0.5, 1.0), jitter=0.25, wear=(0.1, 1.0), trees_ha=24,
        tree_m=(0.8, 3.6), green=0.25, soils=LATERITE + EARTH, grasses=OLIVE + LUSH, cars_ha=4,
    ),
    "planned": Style(
        block_m=(60, 130), depth_m=(38, 60), street_m=(6, 11), paved=0.4, missing=0.05, bend=0.02,
        blocks={"parcels": 8, "strip": 0.8, "open": 0.8, "school": 0.4, "grove": 0.4, "halls": 0.3},
        roofs={"zinc_gable": 5, "zinc_hip": 3, "painted_gable": 2, "painted_hip": 2,
               "tiles_hip": 1.5, "concrete_flat": 1.5, "rusty_gable": 1, "tiles_gable": 1},
        house_m=(8, 16), parcel_m=(13, 22), walled=0.4, trees_ha=40, tree_m=(1.2, 4.5), green=0.5,
        soils=LATERITE + SAND + EARTH, grasses=OLIVE + LUSH + DRY,
    ),
    "rural_huts": Style(
        block_m=(70, 150), depth_m=(60, 120), street_m=(2, 4), paved=0.05, missing=0.7, bend=0.3,
        blocks={"compound": 4, "open": 5, "grove": 1, "hamlet": 2},
        roofs={"thatch_cone": 5, "thatch_gable": 1.5, "thatch_hip": 1, "zinc_gable": 2,
               "zinc_shed": 1, "rusty_gable": 1, "adobe_flat": 0.3},
        house_m=(4, 9), aspect=(0.55, 1.0), jitter=0.5, wear=(0.2, 0.9), walled=0.1, trees_ha=35,
        tree_m=(0.8, 5), green=0.5, soils=LATERITE + SAND + EARTH, grasses=OLIVE + DRY,
        cars_ha=0.5,
    ),
    "suburb": Style(
        block_m=(80, 160), depth_m=(48, 72), street_m=(6, 9), paved=0.95, missing=0.1, bend=0.2,
        blocks={"parcels": 9, "open": 0.7, "grove": 0.7, "school": 0.3},
        roofs={"tiles_hip": 4, "shingle_hip": 2, "tiles_gable": 2, "shingle_gable": 1,
               "painted_hip": 1, "concrete_flat": 0.8, "zinc_hip": 0.6},
        house_m=(11, 19), aspect=(0.6, 0.95), parcel_m=(18, 28), wear=(0.0, 0.4), walled=0.45,
        trees_ha=70, tree_m=(1.5, 5.0), green=0.75, soils=EARTH + SAND, grasses=LUSH + OLIVE,
        cars_ha=25,
    ),
    "row_houses": Style(
        block_m=(60, 140), depth_m=(26, 42), street_m=(4, 7), paved=0.8, missing=0.06, bend=0.0,
        blocks={"strip": 8, "packed": 1.5, "open": 0.5, "school": 0.3},
        roofs={"concrete_flat": 4, "concrete_high": 2, "zinc_gable": 1.5, "painted_shed": 1,
               "tiles_gable": 2, "rusty_shed": 1, "zinc_shed": 1},
        house_m=(4, 8), wear=(0.1, 0.8), walled=0.5, trees_ha=12, green=0.4,
        soils=GREY + EARTH, grasses=LUSH + OLIVE, cars_ha=20,
    ),
    "dense_core": Style(
        block_m=(36, 80), depth_m=(24, 46), street_m=(1.6, 6), paved=0.7, missing=0.2, bend=0.0,
        blocks={"packed": 9, "strip": 1, "open": 0.4, "school": 0.25, "halls": 0.25},
        roofs={"concrete_flat": 6, "concrete_high": 7, "painted_shed": 1, "zinc_shed": 1,
               "rusty_shed": 0.9, "zinc_gable": 0.7, "painted_gable": 0.6, "membrane_flat": 0.4},
        house_m=(4.5, 9.5), wear=(0.2, 1.0), walled=0.4, trees_ha=30, tree_m=(0.8, 3.0), green=0.45,
        soils=GREY + EARTH, grasses=LUSH, cars_ha=30,
    ),
    "industrial": Style(
        block_m=(90, 180), depth_m=(70, 130), street_m=(8, 13), paved=0.8, missing=0.1, bend=0.0,
        blocks={"halls": 8, "parcels": 0.8, "open": 1.2, "informal": 0.4},
        roofs={"zinc_gable": 3, "painted_gable": 2, "concrete_flat": 2, "membrane_flat": 2,
               "zinc_shed": 1},
        house_m=(8, 20), walled=0.5, trees_ha=8, green=0.3, soils=GREY + EARTH + LATERITE,
        grasses=OLIVE + DRY, cars_ha=25,
    ),
    "desert": Style(
        block_m=(50, 100), depth_m=(40, 70), street_m=(4, 8), paved=0.15, missing=0.15, bend=0.08,
        blocks={"walled": 6, "packed": 1.5, "open": 1.2, "parcels": 1},
        roofs={"adobe_flat": 6, "concrete_flat": 3, "zinc_gable": 1, "painted_gable": 0.4},
        house_m=(6, 14), jitter=0.08, wear=(0.2, 0.9), walled=0.8, trees_ha=3, tree_m=(0.7, 2.2),
        green=0.06, soils=SAND, grasses=DRY, cars_ha=4,
    ),
    "forest_village": Style(
        block_m=(50, 110), depth_m=(45, 90), street_m=(3, 6), paved=0.3, missing=0.4, bend=0.25,
        blocks={"hamlet": 4, "parcels": 3, "grove": 3, "open": 2},
        roofs={"zinc_gable": 3, "tiles_gable": 4, "tiles_hip": 3, "rusty_gable": 2, "zinc_hip": 1,
               "painted_gable": 1, "painted_hip": 0.6, "thatch_gable": 0.3},
        house_m=(6, 15), aspect=(0.5, 0.9), parcel_m=(18, 30), jitter=0.12, wear=(0.1, 0.9),
        walled=0.12, trees_ha=200, tree_m=(1.6, 5.5), palms=0.25, green=0.85,
        soils=EARTH + LATERITE, grasses=LUSH + OLIVE, cars_ha=4,
    ),
}  # fmt: skip
"""The styles by name."""
