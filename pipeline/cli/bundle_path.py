"""A command's argument that names a bundle: a file, or the weights that come with the package."""

from pathlib import Path
from typing import Any

import click


class BundlePath(click.Path):
    """A path; the word `shipped` stands for the shipped weights."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path.

        Raises:
            click.BadParameter: if nothing is shipped with this installation.
        """
        from model.errors import BundleError
        from model.shipped import resolve_bundle

        try:
            return super().convert(resolve_bundle(str(value)), param, ctx)
        except BundleError as error:
            self.fail(str(error), param, ctx)
