"""Drawn scenes as files: a georeferenced image and a vector file of the true outlines."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geo.atomic_files import write_atomically
from geo.errors import RasterError
from model.drawn_towns import DrawnScene


@dataclass(frozen=True, kw_only=True)
class ScenePlace:
    """Where on Earth a drawn scene is put.

    Attributes:
        epsg: a CRS in metres with x to the east and y to the north.
        left_m: x of the image's left edge.
        top_m: y of its upper edge.
    """

    epsg: int
    left_m: float
    top_m: float


def write_scene_image(path: str | Path, scene: DrawnScene, place: ScenePlace) -> None:
    """Write a scene as a cloud-optimised GeoTIFF (JPEG, with overviews): whole or not at all.

    Raises:
        RasterError: if it cannot be written.
    """
    # Here: where training runs there may be neither rasterio nor shapely.
    from affine import Affine
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    from geo.gdal import gdal_reason

    profile = {
        "driver": "COG",
        "count": 3,
        "height": scene.image.shape[0],
        "width": scene.image.shape[1],
        "dtype": "uint8",
        "crs": f"EPSG:{place.epsg}",
        "transform": Affine(scene.gsd_m, 0, place.left_m, 0, -scene.gsd_m, place.top_m),
        "compress": "jpeg",
        "quality": 92,
        "blocksize": 512,
    }
    try:
        with MemoryFile() as memory:
            with memory.open(**profile) as dataset:
                dataset.write(np.moveaxis(scene.image, -1, 0))
            write_atomically(path, memory.read())
    except (RasterioError, OSError) as error:
        raise RasterError(f"cannot write {path}: {gdal_reason(error)}") from error


def write_scene_outlines(path: str | Path, scene: DrawnScene, place: ScenePlace) -> None:
    """Write the true outlines as GeoJSON in degrees, with the column `id` as in the scene's ids.

    Raises:
        OSError: if it cannot be written.
    """
    import geopandas
    import shapely

    scale, corner = np.array([scene.gsd_m, -scene.gsd_m]), np.array([place.left_m, place.top_m])
    shapes = [
        shapely.Polygon(rings[0] * scale + corner, [ring * scale + corner for ring in rings[1:]])
        for rings in scene.polygons
    ]
    columns = {"id": np.arange(1, len(shapes) + 1)}
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=place.epsg)
    write_atomically(path, frame.to_json(to_wgs84=True, drop_id=True))
