"""Errors of the model package, part of the tree in `geo.errors`."""

from geo.errors import EveryroofError


class ModelError(EveryroofError):
    """Something is wrong with a network, its bundle or the device that runs it."""


class BundleError(ModelError):
    """A file that is no usable bundle, or metadata that does not fit its weights."""


class NetworkError(ModelError):
    """A network that cannot be built from its config."""


class SegmentError(ModelError):
    """Windows, device or memory that do not allow segmenting."""
