"""Optional output: the probability of each tile as a COG (`outputs: [footprints, probability]`)."""

from geo.cog import write_cog
from pipeline.spec import JobSpec
from pipeline.tile_work import TileProbability

FOLDER = "probability"


def write_probability(spec: JobSpec, done: TileProbability) -> None:
    """Write OUT/probability/TILE.tif: uint8, 255 times the probability, 0 where nothing is."""
    path = spec.out_path / FOLDER / f"{done.task.tile.name}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_cog(path, done.probability, done.task.tile.grid, done.task.window)
