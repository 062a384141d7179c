"""The tree of errors that a caller can act on.

Every message names the thing, the value, and what to do.
"""


class EveryroofError(Exception):
    """Base of all errors that everyroof raises on purpose."""


class GeoError(EveryroofError):
    """Something is wrong with a place, an image or a geometry."""


class GridError(GeoError):
    """A place or a pixel size that the world grid does not hold."""


class RasterError(GeoError):
    """An image that cannot be read or does not fit."""


class GeometryError(GeoError):
    """A polygon that cannot be used."""


class DatasetError(GeoError):
    """An output folder, shard or table that is not what it should be."""


class StorageError(GeoError):
    """A bucket or an object store that cannot be used."""


class StateError(StorageError):
    """A server that refuses, or answers in a way that waiting does not change."""
