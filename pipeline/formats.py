"""Versions of what is kept between runs: raise one when the code behind it gives other results."""

TILE_FORMAT = 3
"""Of stored tiles: reading, segmenting, tracing."""
FINISH_FORMAT = 1
"""Of what a run makes of its tiles before it publishes: merging, finishing, resolving overlaps."""
