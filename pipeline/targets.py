"""Files that a command is to write: nothing that lies there is lost unasked."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from geo.errors import DatasetError


def check_targets(
    targets: Iterable[Any], *, overwrite: bool, sources: Iterable[str | Path] = ()
) -> None:
    """Refuse names of files that exist, that are read, or that are given twice.

    Args:
        targets: paths or objects; None stands for no file.
        overwrite: existing files may be replaced; sources never.
        sources: files that the command reads.

    Raises:
        DatasetError: naming the file and what to do.
    """
    given = [target for target in targets if target is not None]
    read = {Path(source).resolve() for source in sources if "://" not in str(source)}
    seen = set()
    for target in given:
        place = target.resolve()
        if place in read:
            raise DatasetError(f"{target} is read by this command; name another file to write")
        if place in seen:
            raise DatasetError(f"{target} is named for two files; give each a name of its own")
        seen.add(place)
        if target.exists() and not overwrite:
            raise DatasetError(f"{target} exists; choose another name or add --overwrite")
