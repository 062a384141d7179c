"""Chip packs: the places of a training run in one small file that needs nothing geospatial.

A zip file (stored, since its members are compressed already) with `index.json` and, for each place,
the image as JPEG, the ids as 16 bit PNG, the masks as one 8 bit PNG (bit 0 known, bit 1 valid) and
what a teacher said, where one did, as one 8 bit PNG a channel. Labels are exact; the image has lost
what JPEG loses. Drawn places are kept as their recipes.
"""

import dataclasses
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from geo.atomic_files import atomic_path
from model.errors import ChipPackError, PlaceError
from model.places import DrawnRecipe, Int32Array, Place, UInt8Array, check_split

logger = logging.getLogger(__name__)

FORMAT = "everyroof-chip-pack"
VERSION = 1
JPEG_QUALITY = 92
_INDEX = "index.json"
# Fixed, so that the same places give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_KNOWN, _VALID = 1, 2
_TEXTS = ("name", "source", "category", "region", "split")
_NUMBERS = ("weight", "gsd_m", "has_instances")


def write_pack(
    path: str | Path,
    places: Sequence[Place],
    *,
    jpeg_quality: int = JPEG_QUALITY,
    source_quality: Mapping[str, int] | None = None,
) -> None:
    """Write places to one file, whole or not at all; equal places give equal bytes.

    Args:
        path: the file; an existing one is replaced.
        places: at least one.
        jpeg_quality: of the images, 1 to 100.
        source_quality: other qualities for some sources, by their names.

    Raises:
        ChipPackError: if there is no place.
        PlaceError: if names repeat or a region lies on both sides of the split.
    """
    if not places:
        raise ChipPackError(f"there is no place to write to {path}")
    check_split(list(places))
    index = [_describe(place, f"{number:05d}") for number, place in enumerate(places)]
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        text = json.dumps({"format": FORMAT, "version": VERSION, "places": index}, indent=1)
        _add(archive, _INDEX, text.encode(), zipfile.ZIP_DEFLATED)
        for entry, place in zip(index, places, strict=True):
            if place.recipe is not None:
                continue
            quality = (source_quality or {}).get(place.source, jpeg_quality)
            for suffix, data in _encode(place, quality):
                _add(archive, entry["file"] + suffix, data, zipfile.ZIP_STORED)


def read_pack(path: str | Path) -> list[Place]:
    """Read the places of a pack; drawn ones are drawn, on all cores.

    Raises:
        ChipPackError: if it is missing, no pack, of a newer version, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = _read_index(path, archive)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                places = list(pool.map(lambda entry: _read_place(path, archive, entry), index))
    except FileNotFoundError as error:
        raise ChipPackError(
            f"there is no chip pack {path}; make one with `everyroof pack SOURCES.yaml {path}`"
        ) from error
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ChipPackError(f"chip pack {path} is damaged ({error}); copy it again") from error
    check_split(places)
    return places


def _describe(place: Place, file: str) -> dict[str, Any]:
    entry = {name: getattr(place, name) for name in _TEXTS + _NUMBERS}
    if place.recipe is None:
        channels = {} if place.soft is None else {"soft_channels": place.soft.shape[2]}
        return entry | {"file": file, "shape": list(place.shape)} | channels
    return entry | {"recipe": dataclasses.asdict(place.recipe), "ids_crc32": _crc32(place.ids)}


def _encode(place: Place, quality: int) -> list[tuple[str, bytes]]:
    masks = place.known.astype(np.uint8) * _KNOWN + place.valid.astype(np.uint8) * _VALID
    jpeg = (cv2.IMWRITE_JPEG_QUALITY, quality)
    png = (cv2.IMWRITE_PNG_COMPRESSION, 9)
    members = [
        (".jpg", _encoded(".jpg", np.ascontiguousarray(place.image[:, :, ::-1]), jpeg)),
        (".ids.png", _encoded(".png", place.ids.astype(np.uint16), png)),
        (".masks.png", _encoded(".png", masks, png)),
    ]
    for channel in range(0 if place.soft is None else place.soft.shape[2]):
        assert place.soft is not None
        soft = np.ascontiguousarray(place.soft[:, :, channel])
        members.append((f".soft{channel}.png", _encoded(".png", soft, png)))
    return members


def _encoded(suffix: str, array: Any, options: tuple[int, int]) -> bytes:
    done, data = cv2.imencode(suffix, array, options)
    assert done, f"OpenCV cannot write {suffix}"
    return bytes(data)


def _add(archive: zipfile.ZipFile, name: str, data: bytes, compression: int) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = compression
    archive.writestr(info, data)


def _read_index(path: str | Path, archive: zipfile.ZipFile) -> list[dict[str, Any]]:
    try:
        index = json.loads(archive.read(_INDEX))
        if index["format"] != FORMAT:
            raise ValueError(index["format"])
        version, places = int(index["version"]), list(index["places"])
    except (KeyError, ValueError, TypeError) as error:
        raise ChipPackError(
            f"{path} is a zip file but no chip pack; make one with `everyroof pack`"
        ) from error
    if version != VERSION:
        raise ChipPackError(
            f"chip pack {path} has format version {version}, this program reads {VERSION}; make it "
            "again with `everyroof pack`"
        )
    return places


def _read_place(path: str | Path, archive: zipfile.ZipFile, entry: dict[str, Any]) -> Place:
    try:
        if "recipe" in entry:
            return _draw_place(entry)
        shape, file = tuple(entry["shape"]), entry["file"]
        image = _decode(archive, f"{file}.jpg", cv2.IMREAD_COLOR, (*shape, 3))
        ids = _decode(archive, f"{file}.ids.png", cv2.IMREAD_UNCHANGED, shape)
        masks = _decode(archive, f"{file}.masks.png", cv2.IMREAD_UNCHANGED, shape)
        valid = (masks & _VALID) > 0
        rgb: UInt8Array = np.ascontiguousarray(image[:, :, ::-1])
        # JPEG rings into the black beyond the edge of the data.
        rgb[~valid] = 0
        return Place(
            **{name: entry[name] for name in _TEXTS + _NUMBERS},
            image=rgb,
            ids=ids.astype(np.int32),
            known=(masks & _KNOWN) > 0,
            valid=valid,
            soft=_read_soft(archive, entry, shape),
        )
    except (KeyError, TypeError, ValueError, PlaceError) as error:
        raise ChipPackError(
            f"chip pack {path} is damaged at place {entry.get('name', '?')}: {error}"
        ) from error


def _read_soft(
    archive: zipfile.ZipFile, entry: dict[str, Any], shape: tuple[int, ...]
) -> UInt8Array | None:
    channels = [
        _decode(archive, f"{entry['file']}.soft{channel}.png", cv2.IMREAD_UNCHANGED, shape)
        for channel in range(int(entry.get("soft_channels", 0)))
    ]
    return np.stack(channels, axis=2) if channels else None


def _draw_place(entry: dict[str, Any]) -> Place:
    # Here: drawing is needed by packs with drawn places alone.
    from model.read_drawn_source import draw_recipe

    recipe = DrawnRecipe(**entry["recipe"])
    image, ids = draw_recipe(recipe)
    if _crc32(ids) != entry["ids_crc32"]:
        logger.warning(
            "place %s is drawn otherwise than when the pack was made: another version of the "
            "program; make the pack again for the same training",
            entry["name"],
        )
    everywhere = np.ones(ids.shape, np.bool_)
    fields = {name: entry[name] for name in _TEXTS + _NUMBERS}
    return Place(**fields, image=image, ids=ids, known=everywhere, valid=everywhere, recipe=recipe)


def _crc32(ids: Int32Array) -> int:
    return zlib.crc32(ids.tobytes())


def _decode(
    archive: zipfile.ZipFile, name: str, flags: int, shape: tuple[int, ...]
) -> "np.ndarray[Any, Any]":
    data = np.frombuffer(archive.read(name), np.uint8)
    array = cv2.imdecode(data, flags) if len(data) else None
    if array is None or array.shape != shape:
        found = "nothing" if array is None else f"shape {array.shape}"
        raise ValueError(f"{name} holds {found}; expected shape {shape}")
    return array
