"""Arrays, grids and polygons: everything that needs neither torch nor Beam.

Read bottom-up: `errors`, `grid` (the world grid), `rasters` (images onto the grid), `instances`
(buildings as pixel runs), `trace` (exact outlines), `seams` (pieces to whole buildings),
`simplify` and `regularize` (finishing), `footprints` (the table), `overlap`, `shards`,
`geoparquet`, `metrics`.
"""
