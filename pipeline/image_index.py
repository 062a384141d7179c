"""ImageIndex: the images of a job as one table, in one file of the tile store.

    images/index/HASH.arrow        the table, named by its content

A hundred thousand images are a table of some tens of megabytes. Every stage needs it, so the job's
spec carries only the file's name once it is saved; a process maps the file into memory once and
shares it. What a catalogue tells (outline, date) is enough for planning: such images are opened by
the worker that first needs them (`pipeline.image_shelf`).
"""

import dataclasses
import datetime
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

from geo.atomic_files import write_atomically
from geo.errors import EveryroofError
from geo.images import ImageInfo
from geo.places import Place, as_place

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

INDEX_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("date", pa.date32()),
        pa.field("outline", pa.binary(), nullable=False),
        pa.field("num_px", pa.int64(), nullable=False),
        pa.field("info", pa.string()),
        pa.field("cloud_mask", pa.string()),
    ]
)
"""`outline` is WKB in degrees, `info` an `ImageInfo` as JSON (opened images only), `cloud_mask` a
`MaskSource` as JSON; `num_px` is 0 where nobody knows."""
_FAILED = b"everyroof.failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FailedImage:
    """An image that cannot be used, known before the work starts."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskSource:
    """Where an image's cloud mask lies.

    Attributes:
        path: the raster; the image itself where a band of it is the mask.
        band: its band, from 1.
        values: values of the pixels that are not used.
    """

    path: str
    band: int
    values: tuple[int, ...]

    def to_json(self) -> str:
        """As JSON, the same for the same content."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "MaskSource":
        """The source of `to_json`."""
        data = json.loads(text)
        return cls(**{**data, "values": tuple(data["values"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexedImage:
    """An image of the job, as far as it is known before the work.

    Attributes:
        image_id: name in the output.
        path: anything GDAL opens.
        date: day it was taken; None where neither the config nor the catalogue says.
        outline: polygon in degrees, continuous across the antimeridian. Of an opened image its
            edges, else what the catalogue states and a little more.
        num_px: pixels at full resolution, 0 where unknown.
        info: what the file says about itself; None where it was not opened yet.
        cloud_mask: where its cloud mask lies.
    """

    image_id: str
    path: str
    date: datetime.date | None
    outline: shapely.Polygon
    num_px: int = 0
    info: ImageInfo | None = None
    cloud_mask: MaskSource | None = None

    @classmethod
    def of_opened(cls, info: ImageInfo, cloud_mask: MaskSource | None = None) -> "IndexedImage":
        """An image that was opened."""
        return cls(
            image_id=info.image_id,
            path=info.path,
            date=info.date,
            outline=shapely.Polygon(info.footprint),
            num_px=info.width * info.height,
            info=info,
            cloud_mask=cloud_mask,
        )

    @property
    def footprint(self) -> tuple[tuple[float, float], ...]:
        """The closed outline as (longitude, latitude) pairs in degrees."""
        if self.info is not None:
            return self.info.footprint
        return tuple((x, y) for x, y in self.outline.exterior.coords)

    @property
    def version(self) -> str | None:
        """Identity of the content; None where the image was not opened yet."""
        return self.info.version if self.info is not None else None


class ImageIndex(Sequence[IndexedImage]):
    """The images of a job by position, and those that cannot be used.

    Pickled, it is its file's name once it was saved, else the whole table.
    """

    def __init__(self, table: pa.Table, *, file: Place | None = None) -> None:
        self._table = table.combine_chunks()
        self._file = file
        self._digest: str | None = file.stem if file is not None else None

    @classmethod
    def of(cls, images: Iterable[IndexedImage], failed: Iterable[FailedImage] = ()) -> "ImageIndex":
        """An index of images, in their order."""
        rows = list(images)
        outlines = shapely.to_wkb(np.array([row.outline for row in rows], dtype=object))
        columns = [
            [row.image_id for row in rows],
            [row.path for row in rows],
            [row.date for row in rows],
            outlines.tolist(),
            [row.num_px for row in rows],
            [row.info and json.dumps(row.info.to_dict(), sort_keys=True) for row in rows],
            [row.cloud_mask and row.cloud_mask.to_json() for row in rows],
        ]
        pairs = [(image.path, image.reason) for image in failed]
        schema = INDEX_SCHEMA.with_metadata({_FAILED: json.dumps(pairs).encode()})
        arrays = [pa.array(v, f.type) for v, f in zip(columns, schema, strict=True)]
        return cls(pa.Table.from_arrays(arrays, schema=schema))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._table.slice(range(len(self))[index], 1).to_pylist()[0]
        return IndexedImage(
            image_id=row["image_id"],
            path=row["path"],
            date=row["date"],
            outline=shapely.from_wkb(row["outline"]),
            num_px=row["num_px"],
            info=ImageInfo.from_dict(json.loads(row["info"])) if row["info"] else None,
            cloud_mask=MaskSource.from_json(row["cloud_mask"]) if row["cloud_mask"] else None,
        )

    def __iter__(self) -> Iterator[IndexedImage]:
        return (self[index] for index in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._file is not None:
            return load_index, (str(self._file),)
        return _from_bytes, (_to_bytes(self._table),)

    @property
    def digest(self) -> str:
        """Hash of everything the index holds, 32 hexadecimal digits."""
        if self._digest is None:
            self._digest = hashlib.sha256(_to_bytes(self._table)).hexdigest()[:32]
        return self._digest

    @property
    def failed(self) -> tuple[FailedImage, ...]:
        """Images that cannot be used."""
        pairs = json.loads((self._table.schema.metadata or {}).get(_FAILED, b"[]"))
        return tuple(FailedImage(path=path, reason=reason) for path, reason in pairs)

    @functools.cached_property
    def is_opened(self) -> npt.NDArray[np.bool_]:
        """Which images were opened before the work, bool, shape (n,)."""
        return np.asarray(self._table["info"].is_valid())

    @property
    def num_px(self) -> int:
        """Pixels of all images at full resolution, as far as they are known."""
        return int(self._table["num_px"].to_numpy().sum())

    def column(self, name: str) -> pa.Array:
        """A column of `INDEX_SCHEMA`."""
        return self._table[name].combine_chunks()

    def outlines(self, positions: Int64Array | None = None) -> npt.NDArray[np.object_]:
        """Outlines as shapely polygons in degrees, of all images or of some."""
        column = self.column("outline")
        if positions is not None:
            column = column.take(pa.array(positions))
        return np.asarray(shapely.from_wkb(column.to_numpy(zero_copy_only=False)))

    @functools.cached_property
    def bounds(self) -> Float64Array:
        """(west, south, east, north) of each outline in degrees, shape (n, 4)."""
        return np.asarray(shapely.bounds(self.outlines())).reshape(-1, 4)

    def infos(self) -> list[ImageInfo]:
        """What the files say, of a job whose images were all opened.

        Raises:
            ValueError: if one was not.
        """
        infos = [image.info for image in self]
        if any(info is None for info in infos):
            raise ValueError("an image of a catalogue was not opened yet")
        return [info for info in infos if info is not None]

    def saved(self, folder: Place) -> "ImageIndex":
        """This index with its file in a folder: written there unless it is."""
        path = folder / f"{self.digest}.arrow"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _to_bytes(self._table))
        return load_index(str(path))


def index_folder(store: Place) -> Place:
    """Folder of a tile store's image indexes."""
    return store / "images" / "index"


@functools.lru_cache(maxsize=4)
def load_index(path: str) -> ImageIndex:
    """The index of a file, mapped into memory and shared by all who ask in this process.

    Raises:
        EveryroofError: if the file is missing or damaged.
    """
    try:
        place = as_place(path)
        if isinstance(place, Path):
            source = pa.memory_map(path)
        else:
            source = pa.BufferReader(place.read_bytes())
        return ImageIndex(pa.ipc.open_file(source).read_all(), file=place)
    except (OSError, pa.ArrowInvalid) as error:
        raise EveryroofError(
            f"{path}: the list of the job's images cannot be read ({error}); run again"
        ) from error


def _from_bytes(data: bytes) -> ImageIndex:
    return ImageIndex(pa.ipc.open_file(pa.py_buffer(data)).read_all())


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())
