"""geo-inference: its `GeoInference`, a GeoTIFF to a mask to GeoJSON.

Windows of 1024 px that overlap by half, as it comes. Set beyond its defaults: one class, the
network's own threshold, the CPU, and as many dask workers as there are cores (it takes one less).
"""

import os

from adapter import Adapter
from geo_inference.geo_inference import GeoInference

adapter = Adapter("geo-inference")
engine = GeoInference(
    model=adapter.network,
    work_dir=str(adapter.out),
    mask_to_vec=True,
    device="cpu",
    num_classes=1,
    prediction_threshold=adapter.threshold,
)
with adapter.work("*_polygons_*.geojson"):
    engine(inference_input=adapter.image, workers=os.cpu_count() or 1)
