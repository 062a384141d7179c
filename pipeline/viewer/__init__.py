"""`everyroof view`: a local server, and one self-contained file, that show a dataset on a map.

`row_groups` reads what a tile or a click needs, `index_builder` fills the index of all footprints,
`vector_tiles` and `imagery` make the tiles, `server` hands them out to the page in pipeline/page/,
and `exported_page` puts page and data into one file.
"""
