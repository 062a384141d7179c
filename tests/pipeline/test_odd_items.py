"""An item of a catalogue that is not as it should be fails alone, by its name."""

import json

import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.image_index import ImageIndex, IndexedImage
from pipeline.image_sources import StacConfig
from pipeline.stac_images import list_stac


def _item(name):
    return {
        "type": "Feature",
        "id": name,
        "collection": "drawn",
        "geometry": shapely.geometry.mapping(shapely.box(30, 0, 31, 1)),
        "bbox": [30, 0, 31, 1],
        "properties": {"datetime": "2024-01-01T00:00:00Z", "eo:cloud_cover": 3},
        "assets": {"visual": {"href": f"{name}.tif", "proj:shape": [10, 20]}},
        "links": [],
    }


def _list(folder, items, **options):
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return list_stac(StacConfig(stac=str(path), **options), None)


def _changed(place, value):
    """The item "odd" with one value, by its keys, replaced or (for ...) missing."""
    item = _item("odd")
    parent = item
    for key in place[:-1]:
        parent = parent[key]
    if value is ...:
        parent.pop(place[-1], None)
    else:
        parent[place[-1]] = value
    return item


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (["properties", "datetime"], "yesterday", ["item odd", "'yesterday'", "RFC 3339"]),
        (["properties", "datetime"], "0001-01-01T00:00:00+14:00", ["item odd"]),
        (["properties", "eo:cloud_cover"], "n/a", ["item odd", "n/a"]),
        (["properties"], None, ["item odd", "properties are None"]),
        (["properties"], ..., ["item odd", "properties"]),
        (["assets"], None, ["item odd"]),
        (["assets"], ["a"], ["item odd"]),
        (["assets", "visual"], None, ["item odd"]),
        (["assets", "visual", "href"], ..., ["item odd", "'visual'", "href None"]),
        (["assets", "visual", "href"], "\ud800.tif", ["item odd"]),
        (["assets", "visual", "proj:shape"], [10], ["item odd"]),
        (["assets", "visual", "proj:shape"], [1e30, 1e30], ["item odd", "proj:shape"]),
        (["geometry"], {"type": "Polygon"}, ["item odd", "outline"]),
        (["collection"], ["x"], ["item odd", "collection ['x']"]),
        (["id"], ..., ["item number 2", "id"]),
        (["id"], None, ["item number 2", "None"]),
        (["id"], "\ud800", ["item "]),
    ],
)
def test_the_odd_item_is_told_and_the_others_used(tmp_path, place, value, words):
    items = [_item("first"), _changed(place, value), _item("last")]
    listing = _list(tmp_path, items, max_cloud_percent=50)
    assert [image.image_id for image in listing.images] == ["first", "last"]
    (failed,) = listing.failed
    for word in words:
        assert word in failed.reason, failed.reason
    assert failed.reason.count("item ") == 1
    assert failed.path.startswith(str(tmp_path / "items.json#"))


@pytest.mark.parametrize("odd", [None, 3, "text", []])
def test_what_is_no_item_at_all(tmp_path, odd):
    listing = _list(tmp_path, [odd, _item("last")])
    assert [image.image_id for image in listing.images] == ["last"]
    assert "item number 1" in listing.failed[0].reason


def test_a_value_that_no_limit_asks_for_may_be_odd(tmp_path):
    listing = _list(tmp_path, [_changed(["properties", "eo:cloud_cover"], "n/a")])
    assert [image.image_id for image in listing.images] == ["odd"]


PLACES = [
    ["id"], ["collection"], ["geometry"], ["geometry", "type"], ["geometry", "coordinates"],
    ["bbox"], ["properties"], ["properties", "datetime"], ["properties", "eo:cloud_cover"],
    ["assets"], ["assets", "visual"], ["assets", "visual", "href"], ["links"],
    ["assets", "visual", "proj:shape"], ["assets", "visual", "roles"],
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(place=st.sampled_from(PLACES), value=JSON | st.just(...))
@example(place=["links"], value=[None, {"rel": "self"}, {"rel": "self", "href": 3}])
def test_whatever_an_item_holds_the_others_are_used(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("odd")
    items = [_item("first"), _changed(place, value), _item("last")]
    listing = _list(folder, items, max_cloud_percent=50, max_nodata_percent=50)
    names = [image.image_id for image in listing.images]
    assert names[:1] == ["first"]
    assert "last" in names
    assert len(names) + len(listing.failed) <= 3
    images = [
        IndexedImage(
            image_id=image.image_id,
            path=image.path,
            date=image.date,
            outline=shapely.box(0, 0, 1, 1),
            num_px=image.num_px,
        )
        for image in listing.images
    ]
    assert len(ImageIndex.of(images, listing.failed).digest) == 32
