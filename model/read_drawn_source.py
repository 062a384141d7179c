"""Sources of drawn towns, whose labels are exact."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from model.errors import SourceError
from model.labelled_image import LabelCounts, LabelledImage, SkippedImage
from model.places import DrawnRecipe, Int32Array, UInt8Array
from model.read_mask_source import number_ids
from model.source_config import DatasetConfig, DrawnSource


def read_drawn_source(
    source: DrawnSource, dataset: DatasetConfig
) -> Iterator[LabelledImage | SkippedImage]:
    """Draw every scene of a source, on all cores.

    Args:
        source: how many, and of which kind.
        dataset: not used; drawn scenes keep their pixel size.

    Raises:
        SourceError: if there is no such style, or size.
    """
    recipes = [
        DrawnRecipe(
            seed=source.seed + number,
            size_px=source.size_px,
            gsd_m=source.gsd_m,
            style=source.style,
        )
        for number in range(source.count)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, (image, ids) in enumerate(pool.map(draw_recipe, recipes)):
            everywhere = np.ones(ids.shape, np.bool_)
            yield LabelledImage(
                stem=f"scene_{number:04d}",
                gsd_m=source.gsd_m,
                image=image,
                ids=ids,
                known=everywhere,
                valid=everywhere,
                has_instances=True,
                counts=LabelCounts(num_labels=int(ids.max())),
                recipe=recipes[number] if source.store == "recipe" else None,
            )


def draw_recipe(recipe: DrawnRecipe) -> tuple[UInt8Array, Int32Array]:
    """Image and ids of a drawn place; ids run from 1 without gaps.

    Args:
        recipe: what to draw.

    Raises:
        SourceError: if there is no such style, or size.
    """
    # Here: drawing is needed by those alone who ask for it.
    from model.drawn_towns import draw_scene

    try:
        scene = draw_scene(recipe.seed, recipe.size_px, recipe.gsd_m, recipe.style)
    except ValueError as error:
        raise SourceError(f"{recipe} cannot be drawn: {error}") from error
    return np.ascontiguousarray(scene.image), number_ids(scene.ids)
