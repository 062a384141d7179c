"""Runs inside QGIS's own Python: opens layers as the program would, describes and draws them.

Reads one request as JSON from standard input and answers with JSON on standard output; the tests
themselves run in another Python, which cannot import QGIS.
"""

import json
import sys

from qgis.core import (
    Qgis,
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsExpression,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsFeatureRequest,
    QgsLayerDefinition,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsRenderContext,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

LONLAT = QgsCoordinateReferenceSystem("EPSG:4326")
MERCATOR = QgsCoordinateReferenceSystem("EPSG:3857")
WIDTH, HEIGHT = 1000, 750


def open_layers(request):
    """Layers as dragging the file onto the map would add them, the topmost first."""
    path = request["path"]
    if not path.endswith(".qlr"):
        return [QgsVectorLayer(path + request.get("options", ""), "dragged", "ogr")]
    project = QgsProject.instance()
    is_read, message = QgsLayerDefinition.loadLayerDefinition(
        path, project, project.layerTreeRoot()
    )
    if not is_read:
        raise SystemExit(message)
    return [node.layer() for node in project.layerTreeRoot().findLayers()]


def describe(layer, request):
    if not layer.isValid():
        return {"is_valid": False, "name": layer.name(), "error": layer.error().message()}
    answer = {
        "is_valid": True,
        "name": layer.name(),
        "num_features": layer.featureCount(),
        "crs": layer.crs().authid() if layer.crs().isValid() else None,
        "fields": [field.name() for field in layer.fields()],
        "extent": corners(layer.extent()),
        "farthest": layer.minimumScale() if layer.hasScaleBasedVisibility() else None,
        "is_labelled": layer.labelsEnabled(),
        "source": layer.source(),
        **renderer(layer),
    }
    if "box" in request:
        answer["in_box"] = rows(layer, QgsFeatureRequest().setFilterRect(rectangle(request)))
    if "filter" in request:
        layer.setSubsetString(request["filter"])
        answer["num_filtered"] = layer.featureCount()
        answer["num_read"] = sum(1 for _ in layer.getFeatures())
        layer.setSubsetString("")
    if request.get("look_up") in answer["fields"]:
        answer["looked_up"] = by_number(layer, request)
    return answer


def renderer(layer):
    kind = layer.renderer()
    if kind.type() != "graduatedSymbol":
        return {"renderer": kind.type()}
    classes = [
        [each.lowerValue(), each.upperValue(), each.symbol().symbolLayer(0).color().name()]
        for each in kind.ranges()
    ]
    return {"renderer": kind.type(), "column": kind.classAttribute(), "classes": classes}


def rows(layer, request):
    """Every row: its number, its columns, its outline, the colour and the tip it has on the map."""
    context = QgsRenderContext()
    expressions = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    context.setExpressionContext(expressions)
    style = layer.renderer().clone()
    style.startRender(context, layer.fields())
    found = []
    for feature in layer.getFeatures(request):
        symbol = style.symbolForFeature(feature, context)
        expressions.setFeature(feature)
        found.append(
            {
                "number": feature.id(),
                "values": {
                    name: str(value)
                    for name, value in zip(layer.fields().names(), feature, strict=True)
                },
                "wkb": bytes(feature.geometry().asWkb()).hex(),
                "colour": symbol.symbolLayer(0).color().name() if symbol else None,
                "tip": QgsExpression.replaceExpressionText(layer.mapTipTemplate(), expressions),
            }
        )
    style.stopRender(context)
    return found


def by_number(layer, request):
    """What QGIS gets for the number of a row that it met in a box: selections work that way."""
    met = next(layer.getFeatures(QgsFeatureRequest().setFilterRect(rectangle(request))))
    again = layer.getFeature(met.id())
    column = request["look_up"]
    return [str(met[column]), str(again[column])]


def rectangle(request):
    return QgsRectangle(*request["box"])


def corners(box):
    return [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()]


def draw(layers, picture, scale):
    """Draw layers, the first on top, around a point at a scale; returns the scale that was met."""
    settings = QgsMapSettings()
    settings.setDestinationCrs(MERCATOR)
    settings.setTransformContext(QgsProject.instance().transformContext())
    settings.setOutputSize(QSize(WIDTH, HEIGHT))
    settings.setBackgroundColor(QColor("white"))
    settings.setFlag(QgsMapSettings.Antialiasing, True)
    if "image" in picture:
        layers = [*layers, QgsRasterLayer(picture["image"], "image")]
    settings.setLayers(layers)
    to_map = QgsCoordinateTransform(LONLAT, MERCATOR, QgsProject.instance())
    middle = to_map.transform(*picture["middle"])
    extent = QgsRectangle(middle.x() - 1, middle.y() - 1, middle.x() + 1, middle.y() + 1)
    settings.setExtent(extent)
    extent.scale(scale / settings.scale())
    settings.setExtent(extent)
    # As QGIS's map canvas does: expressions such as @map_scale have no value otherwise.
    context = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layers[0]))
    context.appendScope(QgsExpressionContextUtils.mapSettingsScope(settings))
    settings.setExpressionContext(context)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    if job.errors():
        raise SystemExit(f"not drawn: {[error.message for error in job.errors()]}")
    if not job.renderedImage().save(picture["path"]):
        raise SystemExit(f"{picture['path']} cannot be written")
    return settings.scale()


def main():
    request = json.load(sys.stdin)
    application = QgsApplication([], False)
    application.initQgis()
    layers = open_layers(request)
    answer = {"qgis": Qgis.QGIS_VERSION, "layers": [describe(each, request) for each in layers]}
    for picture in request.get("pictures", ()):
        answer.setdefault("scales", []).append(draw(layers, picture, picture["scale"]))
    json.dump(answer, sys.stdout)


main()
