"""The weights that come with the package."""

import importlib.resources
from pathlib import Path

from model.errors import BundleError

SHIPPED = "shipped"
"""The word for them wherever a bundle is named."""
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


def resolve_bundle(name: str) -> str:
    """The path of a bundle that is named by its path, or as `shipped`.

    Raises:
        BundleError: if it is `shipped` and this installation has none.
    """
    return str(shipped_bundle_path()) if name == SHIPPED else name
