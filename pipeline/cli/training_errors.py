"""What all commands that train have in common: a clear word where a library or a value is wrong."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from geo.errors import EveryroofError


@contextmanager
def training_command() -> Iterator[None]:
    """Show progress as plain lines, and errors as a message instead of a traceback.

    Raises:
        click.ClickException: for every error of ours, and where the extra `train` is missing.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # Advertisements and deprecations of its own making, not of ours.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"training needs {error.name}: pip install 'everyroof[train]'"
        ) from error
    except EveryroofError as error:
        raise click.ClickException(str(error)) from error
