"""Colours of the pictures and the report; colour-blind eyes tell them apart too (Okabe-Ito)."""

STATUS_COLOURS = {
    "ok": "#0072B2",
    "empty": "#A6CEE3",
    "nodata": "#C9C9C9",
    "failed": "#D55E00",
    "planned": "#56B4E9",
}
"""Fill of a tile by its status; `planned` is for tiles that have not run."""
STATUS_WORDS = {
    "ok": "buildings found",
    "empty": "no building",
    "nodata": "no valid pixel",
    "failed": "failed",
    "planned": "planned",
}
"""What a status means, in two words."""
STATUS_ORDER = ("failed", "ok", "planned", "empty", "nodata")
"""What a status outweighs where many tiles share one mark: the first that occurs is shown."""
AREA_COLOUR = "#CC79A7"
"""Outline of the area of interest."""
IMAGE_COLOUR = "#7A5C00"
"""Outline of an image."""
TRUE_COLOUR = "#56B4E9"
"""Footprints that match a reference."""
FALSE_COLOUR = "#D55E00"
"""Footprints that match none."""
MISSED_COLOUR = "#F0E442"
"""References that no footprint matches."""
SERIES_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C00")
"""Lines of a chart, in this order; with more lines than colours the order begins again."""
CONFIDENCE_RAMP = (
    (0.0, "#D55E00"),
    (0.2, "#F3A861"),
    (0.4, "#F5EBB5"),
    (0.6, "#7CC0E3"),
    (0.8, "#0072B2"),
)
"""Fill of a footprint by its confidence: where each class begins (the last one ends at 1), and its
colour. From doubtful vermilion to sure blue, by way of a light middle, as every kind of colour
vision tells apart."""
