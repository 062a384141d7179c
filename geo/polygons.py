"""Polygons with holes as ragged arrays, the common coin between the stages."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from geo.instances import Int64Array, ragged_take

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolygonArray:
    """Polygons, each a shell followed by its holes; struct of arrays, never changed in place.

    Shells run counter-clockwise with y upwards, holes clockwise; rings are closed (the first
    point stands again at the end).

    Attributes:
        coords: (x, y) of every ring point, float64, shape (num_points, 2).
        ring_offsets: ring j owns points ring_offsets[j]:ring_offsets[j + 1]; int64.
        polygon_offsets: polygon i owns rings polygon_offsets[i]:polygon_offsets[i + 1]; int64.
    """

    coords: Float64Array
    ring_offsets: Int64Array
    polygon_offsets: Int64Array

    def __len__(self) -> int:
        return len(self.polygon_offsets) - 1

    @classmethod
    def empty(cls) -> "PolygonArray":
        """No polygons at all."""
        zero = np.zeros(1, np.int64)
        return cls(coords=np.zeros((0, 2)), ring_offsets=zero, polygon_offsets=zero)

    @classmethod
    def from_shapely(cls, polygons: npt.NDArray[np.object_]) -> "PolygonArray":
        """From an array of shapely polygons (no multipolygons, none missing)."""
        if len(polygons) == 0:
            return cls.empty()
        kind, coords, offsets = shapely.to_ragged_array(polygons, include_z=False)
        if kind != shapely.GeometryType.POLYGON:
            raise ValueError(f"expected polygons only, got {kind.name}")
        return cls(
            coords=np.ascontiguousarray(coords),
            ring_offsets=offsets[0].astype(np.int64),
            polygon_offsets=offsets[1].astype(np.int64),
        )

    def to_shapely(self) -> npt.NDArray[np.object_]:
        """An array of shapely polygons, one each."""
        polygons: npt.NDArray[np.object_] = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, self.coords, (self.ring_offsets, self.polygon_offsets)
        )
        return polygons

    def take(self, index: Int64Array) -> "PolygonArray":
        """The chosen polygons, in the order given."""
        rings, polygon_offsets = ragged_take(self.polygon_offsets, index)
        points, ring_offsets = ragged_take(self.ring_offsets, rings)
        return PolygonArray(
            coords=self.coords[points], ring_offsets=ring_offsets, polygon_offsets=polygon_offsets
        )

    def followed_by(self, other: "PolygonArray") -> "PolygonArray":
        """All polygons of both."""
        rings = other.ring_offsets[1:] + self.ring_offsets[-1]
        polygons = other.polygon_offsets[1:] + self.polygon_offsets[-1]
        return PolygonArray(
            coords=np.concatenate([self.coords, other.coords]),
            ring_offsets=np.concatenate([self.ring_offsets, rings]),
            polygon_offsets=np.concatenate([self.polygon_offsets, polygons]),
        )
