import dataclasses
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from model.chips import ChipConfig
from model.source_config import DatasetConfig, DrawnSource, MaskSource, PolygonSource
from pipeline.config import ConfigError
from pipeline.train_config_file import dump_config, load_config, load_dataset, parse_config

SOURCES = Path(__file__).resolve().parents[2] / "configs" / "train" / "sources.yaml"
POLYGONS = {"kind": "polygons", "name": "a", "images": ["*.tif"]}
MASKS = {"kind": "binary_masks", "name": "b", "images": ["*.jpg"], "gsd_m": 0.3}


def _refused(data, cls=DatasetConfig):
    with pytest.raises(ConfigError) as caught:
        parse_config(data, cls, source="x.yaml")
    text = str(caught.value)
    assert text.startswith("x.yaml: ")
    return text


def test_each_kind_becomes_its_class():
    drawn = {"kind": "drawn", "name": "c", "count": 3}
    config = parse_config({"sources": [POLYGONS, MASKS, drawn]}, DatasetConfig, source="x")
    assert [type(s) for s in config.sources] == [PolygonSource, MaskSource, DrawnSource]
    assert config.sources[1].kind == "binary_masks"
    assert parse_config(dump_config(config), DatasetConfig, source="x") == config


def test_only_errors_of_the_meant_kind_are_shown():
    text = _refused({"sources": [POLYGONS | {"contxt_m": 3}, MASKS | {"gsd_m": "wide"}]})
    assert "sources.0.contxt_m: unknown key; did you mean 'context_m'?" in text
    assert "sources.1.gsd_m" in text
    assert "wide" in text
    assert len(text.splitlines()) == 3


def test_errors_name_key_value_and_what_was_expected():
    assert "sources.0.images: missing" in _refused({"sources": [{"kind": "polygons", "name": "a"}]})
    text = _refused({"sources": [POLYGONS | {"weight": -2}]})
    assert "sources.0: weight = -2.0; expected 0 or more" in text
    assert "expected 30 to 100" in _refused({"sources": [POLYGONS], "jpeg_quality": 1})
    text = _refused({"sources": [POLYGONS], "jpeg_qualty": 90})
    assert "jpeg_qualty: unknown key; did you mean 'jpeg_quality'?" in text
    text = _refused({"sources": [POLYGONS], "nonsense": 90})
    assert "known keys: sources, root" in text
    cut = {"town": {"axis": "z", "at": 0.5}}
    assert "sources.0.cut.town.axis" in _refused({"sources": [POLYGONS | {"cut": cut}]})
    cut = {"town": {"axis": "x", "at": 0.5, "gap": 3}}
    text = _refused({"sources": [POLYGONS | {"cut": cut}]})
    assert "sources.0.cut.town.gap: unknown key; did you mean 'gap_m'?" in text


def test_an_unknown_kind_is_named_with_those_there_are():
    text = _refused({"sources": [POLYGONS | {"kind": "polygon"}]})
    assert "sources.0.kind: 'polygon' is no kind of source" in text
    for kind in ("polygons", "coco", "instance_masks", "binary_masks", "drawn"):
        assert kind in text
    assert len(text.splitlines()) == 2


def test_any_config_class_can_be_loaded(tmp_path):
    path = tmp_path / "chips.yaml"
    path.write_text("size_px: 128\ngsd_m: [0.3, 0.5]\nphotometric: {noise: 2}\n")
    config = load_config(path, ChipConfig)
    assert (config.size_px, config.gsd_m, config.photometric.noise) == (128, (0.3, 0.5), 2.0)
    path.write_text("photometric: {nois: 2}\n")
    with pytest.raises(ConfigError, match=r"photometric\.nois: unknown key; did you mean 'noise'"):
        load_config(path, ChipConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Outer:
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    chips: ChipConfig | None = None


def test_optional_parts(tmp_path):
    assert parse_config({}, _Outer, source="x").chips is None
    config = parse_config({"chips": {"size_px": 64}}, _Outer, source="x")
    assert config.chips == ChipConfig(size_px=64)
    assert "size_px = 3" in _refused({"chips": {"size_px": 3}}, _Outer)


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(ConfigError, match=r"missing.yaml: cannot read"):
        load_config(tmp_path / "missing.yaml", DatasetConfig)
    path = tmp_path / "x.yaml"
    for text, words in (("a: [", "not valid YAML"), ("- 1", "got list"), ("", "got NoneType")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=words):
            load_config(path, DatasetConfig)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(path, DatasetConfig)


def test_paths_start_from_root_beside_the_file(tmp_path):
    path = tmp_path / "sources.yaml"
    coco = {"kind": "coco", "name": "d", "images": ["i/*.png", "/far/x.png"], "gsd_m": 0.3}
    coco["annotations"] = "d.json"
    path.write_text(yaml.safe_dump({"root": "../data", "sources": [POLYGONS, coco]}))
    config = load_dataset(path)
    root = tmp_path / "../data"
    assert config.sources[0].images == (str(root / "*.tif"),)
    assert config.sources[1].images == (str(root / "i/*.png"), "/far/x.png")
    assert config.sources[1].annotations == str(root / "d.json")


def test_our_own_sources_hold_no_test_scene():
    config = load_dataset(SOURCES)
    names = [name for source in config.sources for name in getattr(source, "images", ())]
    assert len(names) >= 8
    assert not [name for name in names if "kampala" in name or "nacala" in name]
    assert all("/train/" in name for name in names)
