"""geoai: its `predict_geotiff` for any torch module, then its `raster_to_vector`, to GeoJSON.

Windows of 256 px that overlap by 64, spline weights and batches of 4, as they come. Set beyond its
defaults: a postprocessing step that applies the network's threshold.
"""

import numpy as np
from adapter import Adapter
from geoai.inference import predict_geotiff
from geoai.utils import raster_to_vector
from networks import Probability

adapter = Adapter("geoai-py")
network = Probability(adapter.network)
mask = str(adapter.out / "mask.tif")
with adapter.work("polygons.geojson"):
    predict_geotiff(
        network,
        adapter.image,
        mask,
        output_dtype="uint8",
        output_nodata=0,
        postprocess_fn=lambda probability: (probability >= adapter.threshold).astype(np.uint8),
        device="cpu",
    )
    raster_to_vector(mask, str(adapter.out / "polygons.geojson"))
