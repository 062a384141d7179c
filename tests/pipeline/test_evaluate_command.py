import json

import geopandas
import pytest
import rasterio
import shapely
from click.testing import CliRunner

from pipeline.cli.evaluate import evaluate_command

UTM_36N = "EPSG:32636"
EAST, NORTH = 455_000, 38_700


def block(x, y, width=20, height=20):
    return shapely.box(EAST + x, NORTH + y, EAST + x + width, NORTH + y + height)


REFERENCES = [block(0, 0), block(50, 0), block(100, 0), block(180, 0, 40)]
AOI = block(-10, -10, 210, 100)  # the last reference straddles its eastern edge
FOOTPRINTS = [
    (0.9, block(0, 0)),
    (0.8, block(50, 0, 16)),  # IoU 0.8
    (0.7, block(140, 60)),  # matches nothing
    (0.6, block(185, 0, 10)),  # in the ignored reference
    (0.95, block(5000, 5000)),  # far outside
]


def save(path, shapes, crs="EPSG:4326", **columns):
    frame = geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=UTM_36N).to_crs(crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path, write_covering_bbox=True)
    else:
        frame.to_file(path)
    return path


@pytest.fixture
def run_folder(tmp_path):
    """A finished run's folder, two shards; the labels and their area beside it."""
    out = tmp_path / "out"
    (out / "footprints").mkdir(parents=True)
    for token, rows in (("s2=177c", FOOTPRINTS[:2]), ("s2=1784", FOOTPRINTS[2:])):
        confidence, shapes = zip(*rows, strict=True)
        save(out / "footprints" / f"{token}.parquet", shapes, confidence=confidence)
    (out / "manifest.json").write_text("{}")
    save(tmp_path / "labels.geojson", REFERENCES)
    save(tmp_path / "aoi.gpkg", [AOI], crs="EPSG:3857")
    return tmp_path


def evaluate(*arguments):
    return CliRunner().invoke(evaluate_command, [str(argument) for argument in arguments])


def scores_of(folder, *arguments):
    file = folder / "scores.json"
    result = evaluate(*arguments, "--json", file)
    assert result.exit_code == 0, result.output
    return result.output, json.loads(file.read_text())


def test_scores_of_a_run(run_folder):
    output, scores = scores_of(
        run_folder,
        *(run_folder / "out", run_folder / "labels.geojson", "--aoi", run_folder / "aoi.gpkg"),
        *("--min-confidence", 0.75),
    )
    # Two of three references are found before the only false positive.
    assert scores["ap50"] == pytest.approx(67 / 101)
    assert (scores["num_references"], scores["num_ignored_references"]) == (3, 1)
    assert scores["num_predictions"] == 4  # the far one does not touch the area
    point = scores["at_threshold"]
    assert (point["num_true_positives"], point["num_false_positives"]) == (2, 0)
    assert (point["num_false_negatives"], point["num_ignored"]) == (1, 0)
    assert point["precision"] == 1
    assert point["f1"] == pytest.approx(0.8)
    assert point["mean_iou"] == pytest.approx(0.9, abs=1e-3)
    assert scores["at_best_f1"]["min_confidence"] == 0.8
    assert scores["average_precision"]["0.95"] == pytest.approx(34 / 101)
    assert scores["curve"]["confidence"] == [0.9, 0.8, 0.7, 0.6]
    assert scores["size_bins"][-1]["max_area_m2"] is None
    assert "AP50 0.663" in output
    assert "4 footprints, 3 references counted, 1 ignored" in output
    assert "mean IoU of matches" in output
    assert "200-500" in output


def test_without_an_area_everything_counts(run_folder):
    output, scores = scores_of(run_folder, run_folder / "out", run_folder / "labels.geojson")
    assert scores["num_references"] == 4
    assert scores["at_threshold"]["num_false_positives"] == 3
    assert "No --aoi" in output


def test_an_image_as_the_area(run_folder):
    """References that its edge cuts are not counted, nor is what is found of them."""
    image = run_folder / "image.tif"
    options = {"count": 1, "dtype": "uint8", "crs": UTM_36N, "driver": "GTiff"}
    x_min, _, _, y_max = AOI.bounds
    transform = rasterio.Affine(2, 0, x_min, 0, -2, y_max)
    with rasterio.open(image, "w", width=105, height=50, transform=transform, **options):
        pass
    labels = run_folder / "labels.geojson"
    _, by_image = scores_of(run_folder, run_folder / "out", labels, "--aoi", image)
    _, by_polygon = scores_of(
        run_folder, run_folder / "out", labels, "--aoi", run_folder / "aoi.gpkg"
    )
    assert by_image == by_polygon
    assert by_image["num_ignored_references"] == 1
    (run_folder / "broken.tif").write_bytes(b"II*")
    assert "broken.tif" in refused(run_folder / "out", labels, "--aoi", run_folder / "broken.tif")


@pytest.mark.parametrize("name", ["footprints.parquet", "footprints.gpkg", "footprints.geojson"])
def test_a_single_file(run_folder, name):
    confidence, shapes = zip(*FOOTPRINTS, strict=True)
    path = save(run_folder / name, shapes, confidence=confidence)
    arguments = run_folder / "labels.geojson", "--aoi", run_folder / "aoi.gpkg"
    _, of_file = scores_of(run_folder, path, *arguments)
    _, of_run = scores_of(run_folder, run_folder / "out", *arguments)
    for key in ("average_precision", "num_predictions", "num_ignored_references", "curve"):
        assert of_file[key] == of_run[key]
    for key, value in of_run["at_threshold"].items():
        assert of_file["at_threshold"][key] == pytest.approx(value, rel=1e-4)


def test_a_file_without_confidence_says_so(run_folder):
    path = save(run_folder / "plain.gpkg", [shape for _, shape in FOOTPRINTS[:3]])
    output, scores = scores_of(run_folder, path, run_folder / "labels.geojson")
    assert "no column 'confidence'" in output
    assert scores["curve"]["precision"] == [pytest.approx(2 / 3)]


def refused(*arguments):
    result = evaluate(*arguments)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("Error: ")
    return result.output


def test_an_unfinished_run_is_refused(run_folder):
    (run_folder / "out" / "manifest.json").unlink()
    message = refused(run_folder / "out", run_folder / "labels.geojson")
    assert "has no manifest.json: the run is not finished" in message


def test_a_run_without_footprints_is_refused(run_folder):
    for shard in (run_folder / "out" / "footprints").glob("*.parquet"):
        shard.unlink()
    message = refused(run_folder / "out", run_folder / "labels.geojson")
    assert "holds no footprints" in message


def test_a_damaged_shard_is_refused(run_folder):
    (run_folder / "out" / "footprints" / "s2=177c.parquet").write_bytes(b"PAR1 no more")
    message = refused(run_folder / "out", run_folder / "labels.geojson")
    assert "cannot be read" in message


def test_another_place_is_refused(run_folder):
    labels = save(run_folder / "far.geojson", [block(9000, 0), block(9050, 0)])
    assert "are of different places" in refused(run_folder / "out", labels)
    area = save(run_folder / "far.aoi.geojson", [block(8990, -10, 200, 100)])
    message = refused(run_folder / "out", labels, "--aoi", area)
    assert "no footprints in the area of interest" in message


def test_an_area_without_references_is_refused(run_folder):
    area = save(run_folder / "small.gpkg", [block(130, 50, 40, 40)])
    message = refused(run_folder / "out", run_folder / "labels.geojson", "--aoi", area)
    assert "none of the 4 polygons" in message


def test_missing_files_are_refused(run_folder):
    assert "there is no file" in refused(run_folder / "out", run_folder / "absent.geojson")
    assert "there is no file" in refused(run_folder / "absent", run_folder / "labels.geojson")


def test_json_is_not_written_on_failure(run_folder):
    file = run_folder / "scores.json"
    refused(run_folder / "absent", run_folder / "labels.geojson", "--json", file)
    assert not file.exists()


def test_real_labels_against_themselves(shared_data, tmp_path):
    labels = shared_data / "scenes" / "kampala_a.geojson"
    area = shared_data / "scenes" / "kampala_a.aoi.geojson"
    _, scores = scores_of(tmp_path, labels, labels, "--aoi", area)
    # Labels share confidence 1 and are exact: all that is counted is found.
    assert scores["ap50"] == scores["ap50_95"] == 1.0
    assert scores["num_references"] + scores["num_ignored_references"] == 108
    assert scores["num_ignored_references"] == 18
    assert scores["at_threshold"]["num_false_positives"] == 0
