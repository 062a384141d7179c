"""GeoDeep: its `segment` with an ONNX model, a GeoTIFF to GeoJSON.

Its settings stand in the model file: see `save_onnx` in `benchmarks/peer_networks.py`.
"""

from adapter import Adapter
from geodeep import segment

adapter = Adapter("geodeep")
with adapter.work("polygons.geojson"):
    polygons = segment(adapter.image, adapter.network, output_type="geojson", classes=["building"])
    (adapter.out / "polygons.geojson").write_text(polygons)
