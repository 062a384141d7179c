"""Levels: the sizes at which an image is read, chosen per image and never per tile."""

from dataclasses import dataclass

from geo.images import ImageInfo

# A level may be this much coarser than asked for: 0.3001 m pixels will do for 0.30 m.
GSD_SLACK = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A size at which an image is read: an overview, and exact means of boxes of its pixels.

    Boxes are anchored to the image's corner; an incomplete box at the far edge is left out.

    Attributes:
        overview: index of the overview that is read, None for the image itself.
        base_width: columns of what is read.
        base_height: rows of what is read.
        box_cols: columns of a box.
        box_rows: rows of a box.
        scale_col: columns of the image per column of the level (not always whole: GDAL makes an
            overview of 1011 rows 505 or 506 rows high and spreads them over the image).
        scale_row: rows of the image per row of the level.
    """

    overview: int | None
    base_width: int
    base_height: int
    box_cols: int
    box_rows: int
    scale_col: float
    scale_row: float

    @property
    def width(self) -> int:
        """Columns of the level."""
        return self.base_width // self.box_cols

    @property
    def height(self) -> int:
        """Rows of the level."""
        return self.base_height // self.box_rows


def choose_level(info: ImageInfo, gsd_m: float) -> Level:
    """The coarsest level that is not coarser than a pixel size, overviews first.

    The coarsest overview that fits in both directions is read; what remains is made up by whole
    boxes, so that between 1 and 2 pixels of the level meet one of the target in either direction.

    Args:
        info: the image.
        gsd_m: pixel size wanted, in metres on the ground.
    """
    overview, width, height = None, info.width, info.height
    for index, (level_width, level_height) in enumerate(info.overview_sizes):
        fits_cols = info.gsd_col_m * info.width / level_width <= gsd_m * GSD_SLACK
        if fits_cols and info.gsd_row_m * info.height / level_height <= gsd_m * GSD_SLACK:
            overview, width, height = index, level_width, level_height
    wanted_cols = gsd_m * GSD_SLACK / (info.gsd_col_m * info.width / width)
    wanted_rows = gsd_m * GSD_SLACK / (info.gsd_row_m * info.height / height)
    return _level(info, overview, (width, height), int(wanted_cols), int(wanted_rows))


def coarse_level(info: ImageInfo, max_pixels: int) -> Level:
    """The finest level of at most so many pixels, made from the coarsest overview that is finer.

    Args:
        info: the image.
        max_pixels: limit on the level's pixels.
    """
    overview, width, height = None, info.width, info.height
    for index, (level_width, level_height) in enumerate(info.overview_sizes):
        if width * height > max_pixels:
            overview, width, height = index, level_width, level_height
    box = 1
    while (width // box) * (height // box) > max_pixels:
        box *= 2
    return _level(info, overview, (width, height), box, box)


def _level(
    info: ImageInfo, overview: int | None, size: tuple[int, int], box_cols: int, box_rows: int
) -> Level:
    width, height = size
    box_cols, box_rows = min(max(box_cols, 1), width), min(max(box_rows, 1), height)
    return Level(
        overview=overview,
        base_width=width,
        base_height=height,
        box_cols=box_cols,
        box_rows=box_rows,
        scale_col=info.width / width * box_cols,
        scale_row=info.height / height * box_rows,
    )
