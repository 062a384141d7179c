"""Objects of a bucket by a pattern, as `glob` finds files of a disk."""

import fnmatch
from collections.abc import Sequence

from geo.errors import StorageError
from geo.object_path import ObjectPath, url_of_object
from geo.remote_names import redact
from pipeline.image_sources import CatalogueError

WILD = "*?["


def matching_objects(pattern: str) -> list[str]:
    """URLs of the objects that fit a pattern, sorted; all below its fixed prefix are listed.

    Args:
        pattern: such as s3://BUCKET/FOLDER/**/*.tif; the bucket's name is fixed.

    Raises:
        CatalogueError: if the place cannot be listed.
    """
    url = url_of_object(pattern)
    if url is None:
        raise CatalogueError(
            f"{redact(pattern)}: a server gives no list of its files to find those of a pattern; "
            "name them by `list`, `index` or `stac` (patterns work on disks, s3:// and gs://)"
        )
    bucket, _, key = url.partition("://")[2].partition("/")
    if any(sign in bucket for sign in WILD):
        raise CatalogueError(f"{url}: a pattern begins after the bucket; name one bucket")
    root = ObjectPath(f"{url.partition('://')[0]}://{bucket}", "")
    parts = [part for part in key.split("/") if part]
    fixed = next((i for i, part in enumerate(parts) if any(s in part for s in WILD)), len(parts))
    for part in parts[: min(fixed, len(parts) - 1)]:
        root = root / part
    try:
        literal = ObjectPath.parse(url) if "?" not in url else None
        if literal is not None and "[" in url and literal.exists():
            # As on a disk: a name with a bracket is itself before it is a pattern.
            return [str(literal)]
        found = [path for path, _ in root.walk() if fits(path.key.split("/"), parts)]
    except StorageError as error:
        raise CatalogueError(str(error)) from error
    return sorted(str(path) for path in found)


def fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern, by the rules of `glob`.

    `**` stands for any folders; hidden names fit only what begins with a dot itself.
    """
    if not pattern:
        return not names
    if list(pattern) == ["**"]:
        return bool(names) and not any(name.startswith(".") for name in names)
    if pattern[0] == "**":
        if fits(names, pattern[1:]):
            return True
        return bool(names) and not names[0].startswith(".") and fits(names[1:], pattern)
    if not names or (names[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(names[0], pattern[0]) and fits(names[1:], pattern[1:])
