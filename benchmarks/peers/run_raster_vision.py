"""raster-vision: its prediction of a scene with a custom module, and its polygon output, GeoJSON.

What its `predict` command runs, with the learner made by hand. Windows that do not overlap and
batches of 8, as they come; of 320 px instead of 300, which a U-Net cannot take.
"""

from adapter import Adapter
from networks import TwoClasses
from rastervision.core.data import (
    ClassConfig,
    PolygonVectorOutputConfig,
    RasterioSource,
    Scene,
    SemanticSegmentationLabelStore,
)
from rastervision.core.rv_pipeline import SemanticSegmentationPredictOptions
from rastervision.pytorch_learner import (
    SemanticSegmentationGeoDataConfig,
    SemanticSegmentationLearner,
    SemanticSegmentationLearnerConfig,
)
from rastervision.pytorch_learner.utils import predict_scene_ss

adapter = Adapter("rastervision")
classes = ClassConfig(names=["background", "building"], null_class="background")
settings = SemanticSegmentationLearnerConfig(
    data=SemanticSegmentationGeoDataConfig(class_config=classes, num_workers=0)
)
learner = SemanticSegmentationLearner(
    settings, model=TwoClasses(adapter.network, adapter.threshold), training=False
)
with adapter.work("vector_output/class-1-building.json"):
    source = RasterioSource(adapter.image)
    store = SemanticSegmentationLabelStore(
        str(adapter.out),
        source.crs_transformer,
        classes,
        bbox=source.bbox,
        vector_outputs=[PolygonVectorOutputConfig(class_id=1)],
    )
    scene = Scene("scene", source, label_store=store)
    store.save(predict_scene_ss(learner, scene, SemanticSegmentationPredictOptions(chip_sz=320)))
