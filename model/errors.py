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


class PlaceError(ModelError):
    """A place (image with labels) whose parts do not fit each other."""


class SourceError(ModelError):
    """Training data that cannot be read or does not hold what it should."""


class ChipPackError(ModelError):
    """A file that is no usable chip pack."""


class CalibrationError(ModelError):
    """Footprints that a calibration cannot be fitted to."""


class ExportError(ModelError):
    """A network that cannot be exported, or an exported file that cannot be used."""


class TrainingError(ModelError):
    """A training that cannot start: its data, its initial weights or its settings."""
