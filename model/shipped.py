"""The weights that come with the package."""

import importlib.resources
from pathlib import Path

from model.errors import BundleError

SHIPPED_NAME = "weights/everyroof.safetensors"


def shipped_bundle_path() -> Path:
    """Where the shipped bundle lies.

    Raises:
        BundleError: if this installation has none.
    """
    resource = importlib.resources.files("model").joinpath(SHIPPED_NAME)
    if not (isinstance(resource, Path) and resource.is_file()):
        raise BundleError(
            f"no weights are installed with this version (expected {SHIPPED_NAME} in the package "
            "model); give --model BUNDLE (everyroof bundle import makes one from a state dict)"
        )
    return resource
