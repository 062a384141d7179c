"""The collection is valid STAC, stands alone, and is the same for the same dataset."""

import datetime
import hashlib
import json
from pathlib import Path

import pystac
import pystac.validation
import pytest
import shapely
import shapely.geometry

from pipeline.stac import StacShard, write_stac

DATES = (datetime.date(2019, 3, 4), datetime.date(2021, 12, 31))


def _shard(token: str, bounds, **changes) -> StacShard:
    facts = {
        "token": token,
        "path": f"footprints/s2={token}.parquet",
        "bounds": bounds,
        "num_rows": 10,
        "num_bytes": 700,
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
    }
    return StacShard(**(facts | changes))


KAMPALA = [
    _shard("177dbb", (32.5, 0.3, 32.6, 0.4)),
    _shard("177dbc", (32.6, 0.25, 32.7, 0.4), num_rows=32),
]


def _write(folder: Path, shards=KAMPALA, **changes) -> list[str]:
    facts = {
        "collection_id": "kampala",
        "title": "Kampala",
        "description": "Buildings of Kampala.",
        "shards": shards,
        "model_id": "seed",
        "gsd_m": 0.3,
        "dates": DATES,
        "licence": "CC-BY-4.0",
        "providers": [("Someone", ("producer", "licensor"))],
        "columns": [("latitude", "double"), ("geometry", "binary")],
    }
    return write_stac(folder, **(facts | changes))


def _validate(stac_object: pystac.STACObject) -> None:
    """Against the schemas that pystac brings; those of extensions live on the internet."""
    validator = pystac.validation.JsonSchemaSTACValidator()
    validator.validate_core(stac_object.to_dict(), stac_object.STAC_OBJECT_TYPE, "1.1.0")


def test_the_files_are_valid_and_linked(tmp_path):
    names = _write(tmp_path)
    assert names == ["collection.json", "items/177dbb.json", "items/177dbc.json"]
    collection = pystac.Collection.from_file(str(tmp_path / "collection.json"))
    items = list(collection.get_items())
    assert [item.id for item in items] == ["s2=177dbb", "s2=177dbc"]
    for stac_object in (collection, *items):
        _validate(stac_object)
    assert collection.extent.spatial.bboxes == [[32.5, 0.25, 32.7, 0.4]]
    assert collection.extra_fields["table:row_count"] == 42
    assert collection.license == "CC-BY-4.0"
    assert items[0].get_parent().id == "kampala"
    asset = items[1].assets["footprints"]
    assert Path(asset.get_absolute_href()) == tmp_path / "footprints" / "s2=177dbc.parquet"
    assert asset.extra_fields["file:checksum"].removeprefix("1220") == KAMPALA[1].sha256
    assert asset.extra_fields["file:size"] == 700
    assert shapely.geometry.shape(items[0].geometry).bounds == KAMPALA[0].bounds


def test_validation_would_notice_a_fault(tmp_path):
    _write(tmp_path)
    data = json.loads((tmp_path / "collection.json").read_text())
    del data["license"]
    validator = pystac.validation.JsonSchemaSTACValidator()
    with pytest.raises(pystac.STACValidationError):
        validator.validate_core(data, pystac.STACObjectType.COLLECTION, "1.1.0")


def test_every_link_is_relative_and_nothing_depends_on_the_place(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        _write(tmp_path / name, shards=KAMPALA if name == "a" else KAMPALA[::-1])
    for path in sorted((tmp_path / "a").rglob("*.json")):
        text = path.read_text()
        assert text == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_text()
        assert str(tmp_path) not in text
        data = json.loads(text)
        hrefs = [link["href"] for link in data["links"]]
        hrefs += [asset["href"] for asset in data["assets"].values()]
        assert hrefs
        assert all(href.startswith(("./", "../")) for href in hrefs)


def test_items_of_an_earlier_run_go(tmp_path):
    _write(tmp_path)
    assert _write(tmp_path, shards=KAMPALA[:1]) == ["collection.json", "items/177dbb.json"]
    assert [path.name for path in (tmp_path / "items").iterdir()] == ["177dbb.json"]
    assert len(list(pystac.Collection.from_file(tmp_path / "collection.json").get_items())) == 1


def test_dates_of_the_imagery_are_the_interval(tmp_path):
    early = (datetime.date(2018, 1, 1), datetime.date(2018, 1, 1))
    _write(tmp_path, shards=[KAMPALA[0], _shard("177dbd", (32.7, 0.3, 32.8, 0.4), dates=early)])
    collection = pystac.Collection.from_file(tmp_path / "collection.json")
    [[start, end]] = collection.extent.temporal.intervals
    assert (start.date(), end.date()) == DATES
    own = collection.get_item("s2=177dbd").common_metadata
    assert own.start_datetime.isoformat() == "2018-01-01T00:00:00+00:00"
    assert own.end_datetime.isoformat() == "2018-01-01T23:59:59+00:00"


def test_unknown_dates_are_said_and_exclude_nothing(tmp_path):
    _write(tmp_path, dates=None)
    collection = pystac.Collection.from_file(tmp_path / "collection.json")
    _validate(collection)
    assert collection.extent.temporal.intervals == [[None, None]]
    assert "dates of the imagery are not known" in collection.description
    (item, _) = collection.get_items()
    _validate(item)
    assert item.common_metadata.start_datetime.year == 1970
    assert item.common_metadata.end_datetime.year == 2100


def test_a_shard_across_the_antimeridian_is_two_boxes(tmp_path):
    fiji = _shard("71", (179.5, -17.5, 180.25, -17.0))
    east = _shard("73", (-180.25, -17.5, -179.0, -17.0))
    _write(tmp_path, shards=[fiji, east])
    collection = pystac.Collection.from_file(tmp_path / "collection.json")
    for item, bbox in zip(
        collection.get_items(),
        [[179.5, -17.5, -179.75, -17.0], [179.75, -17.5, -179.0, -17.0]],
        strict=True,
    ):
        _validate(item)
        assert item.bbox == bbox
        geometry = shapely.geometry.shape(item.geometry)
        assert geometry.geom_type == "MultiPolygon"
        assert geometry.is_valid
        assert geometry.bounds[0] >= -180.0
        assert geometry.bounds[2] <= 180.0
        assert geometry.area == pytest.approx(0.5 * (bbox[2] + 360 - bbox[0]))
    assert collection.extent.spatial.bboxes == [[179.5, -17.5, -179.0, -17.0]]


def test_shards_around_the_earth_have_the_earth_as_extent(tmp_path):
    shards = [
        _shard(str(i), (west, 0.0, west + 59.0, 1.0)) for i, west in enumerate(range(-180, 180, 60))
    ]
    _write(tmp_path, shards=shards)
    collection = pystac.Collection.from_file(tmp_path / "collection.json")
    assert collection.extent.spatial.bboxes == [[-180.0, 0.0, 179.0, 1.0]]
    _write(tmp_path, shards=[], bounds=(-200.0, -80.0, 200.0, 84.0))
    collection = pystac.Collection.from_file(tmp_path / "collection.json")
    assert collection.extent.spatial.bboxes == [[-180.0, -80.0, 180.0, 84.0]]


def test_a_dataset_without_a_footprint_needs_bounds(tmp_path):
    assert _write(tmp_path, shards=[], bounds=(32.5, 0.3, 32.6, 0.4)) == ["collection.json"]
    _validate(pystac.Collection.from_file(tmp_path / "collection.json"))
    with pytest.raises(ValueError, match="neither shards nor bounds"):
        _write(tmp_path, shards=[])
