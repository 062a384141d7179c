"""The server behind the page: what it hands out, and what it refuses."""

import http.client
import io
import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import rasterio
from affine import Affine
from drawn_footprints import KAMPALA, draw_footprints
from rasterio.crs import CRS
from small_datasets import write_dataset
from view_server import serving

from geo.errors import DatasetError, RasterError
from geo.web_mercator import to_world
from pipeline.viewer.page import MODULES
from pipeline.viewer.scene import open_scene
from pipeline.viewer.server import allowed_hosts, bind

NUM = 1500
SIDE_PX, SIDE_DEG = 400, 0.01
WHOLE = {"west": 30, "south": -1, "east": 35, "north": 2}


def write_image(
    path: Path, values: np.ndarray, *, place: tuple[float, float] = KAMPALA, **options: object
) -> Path:
    """An image of (bands, rows, cols) around a place, a hundredth of a degree wide."""
    step = SIDE_DEG / values.shape[2]
    transform = Affine(step, 0, place[0] - SIDE_DEG / 2, 0, -step, place[1] + SIDE_DEG / 2)
    options = {"crs": CRS.from_epsg(4326), "transform": transform, **options}
    with rasterio.open(
        path, "w", driver="GTiff", width=values.shape[2], height=values.shape[1],
        count=len(values), dtype=values.dtype, **options,
    ) as file:  # fmt: skip
        file.write(values)
    return path


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("served") / "out", draw_footprints(NUM))


@pytest.fixture(scope="module")
def client(out: Path, tmp_path_factory: pytest.TempPathFactory):
    # 12 bits in 16, a band order of its own, a corner without data.
    ramp = np.broadcast_to(np.linspace(100, 4000, SIDE_PX, dtype=np.uint16), (SIDE_PX, SIDE_PX))
    values = np.stack([ramp, ramp[:, ::-1], ramp.T])
    values[:, : SIDE_PX // 2, : SIDE_PX // 2] = 0
    image = write_image(tmp_path_factory.mktemp("images") / "deep.tif", values, nodata=0)
    with serving(out, [image]) as url, httpx.Client(base_url=url) as client:
        yield client


def tile_of(lon: float, lat: float, z: int) -> str:
    x, y = (int(value[0]) >> (32 - z) for value in to_world([lon], [lat]))
    return f"{z}/{x}/{y}"


def test_the_page_comes_with_a_policy_that_names_no_other_host(client):
    answer = client.get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http:" not in policy
    assert "https:" not in policy
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert answer.text.count(f'nonce="{nonce}"') == 2
    assert nonce not in client.get("/").text
    assert "//" not in answer.text.replace("http://www.w3.org/2000/svg", "").replace("<!--", "")
    for name, value in {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }.items():
        assert answer.headers[name] == value


def test_the_page_has_all_its_files(client):
    for name in ("view.css", "maplibre-gl.css", "maplibre-gl.js", *(f"{m}.js" for m in MODULES)):
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 200
        kind = "text/css" if name.endswith("css") else "text/javascript"
        assert answer.headers["content-type"].startswith(kind)
    assert "maplibregl" in client.get("/page/maplibre-gl.js").text[:2000]


@pytest.mark.parametrize(
    "path",
    [
        "/page/../../pyproject.toml",
        "/page/..%2f..%2fpyproject.toml",
        "/page/%2e%2e/cli/view.py",
        "/page//etc/passwd",
        "/page/index.html",
        "/manifest.json",
        "/tiles/images/../../manifest.json",
        "/api/footprint/-1",
        "/tiles/density/3/9/0",
        "/tiles/density/99/0/0",
        "/tiles/images/14/0/99999",
        "/nothing",
    ],
)
def test_nothing_else_is_handed_out(client, path):
    url = urlsplit(str(client.base_url))
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    connection.request("GET", path)  # as it stands: httpx would tidy the path
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status in (400, 404)
    assert len(body) < 200


@pytest.mark.parametrize(
    ("host", "is_answered"),
    [
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example:80", False),
        ("localhost", True),
        ("127.0.0.1", True),
        ("[::1]", True),
    ],
)
def test_only_requests_that_name_this_machine_are_answered(client, host, is_answered):
    """A page elsewhere whose name was made to point here must not read the data."""
    answer = client.get("/api/progress", headers={"Host": host})
    assert (answer.status_code == 200) is is_answered


def test_allowed_hosts_follow_the_address():
    assert allowed_hosts("0.0.0.0") == ["*"]
    assert "192.168.1.5" in allowed_hosts("192.168.1.5")
    assert "*" not in allowed_hosts("192.168.1.5")


def test_counts(client):
    for _ in range(200):
        progress = client.get("/api/progress").json()
        if progress["num_ready"] == NUM:
            break
    limits = {"min_confidence": 0.75, "min_area_m2": 60}
    found = client.get("/api/summary", params={**WHOLE, **limits}).json()
    table = draw_footprints(NUM)
    is_kept = (table["confidence"].to_numpy() >= 0.75) & (table["area_in_meters"].to_numpy() >= 60)
    assert (found["num_all"], found["num_kept"], found["is_complete"]) == (NUM, is_kept.sum(), True)
    assert sum(found["sizes_kept"]) == is_kept.sum()


@pytest.mark.parametrize("wrong", [{"west": "x"}, {"east": "nan"}, {"north": ""}, {"west": "99"}])
def test_wrong_numbers_are_refused_with_a_reason(client, wrong):
    limits = {"min_confidence": 0, "min_area_m2": 0}
    answer = client.get("/api/summary", params={**WHOLE, **limits, **wrong})
    assert answer.status_code == 400
    assert "expected" in answer.json()["error"]


def test_one_building(client):
    record = client.get("/api/footprint/7").json()
    assert client.get("/api/find", params={"id": record["id"]}).json() == record
    assert record["plus_code"].count("+") == 1
    assert client.get("/api/find", params={"id": "<script>"}).status_code == 404
    assert client.get(f"/api/footprint/{NUM}").status_code == 400
    assert client.get("/api/ledger/0").status_code == 404  # this dataset has none


def test_deep_images_are_stretched_and_have_no_colour_where_they_have_no_data(client):
    answer = client.get(f"/tiles/images/{tile_of(*KAMPALA, 12)}")
    assert answer.headers["content-type"] == "image/png"
    with rasterio.open(io.BytesIO(answer.content)) as picture:
        red, green, blue, alpha = picture.read()
    assert red.shape == (512, 512)
    assert 500 < (alpha > 0).sum() < 4000  # 58 pixels a side, a quarter without data
    seen = alpha > 0
    for band in (red, green, blue):
        assert band[seen].min() < 30
        assert band[seen].max() > 225
    # Red rises from west to east where it is seen, green falls.
    assert np.corrcoef(np.nonzero(seen)[1], red[seen])[0, 1] > 0.9
    assert np.corrcoef(np.nonzero(seen)[1], green[seen])[0, 1] < -0.9


def test_empty_tiles_are_no_content(client):
    for kind, z in (("images", 15), ("footprints", 15), ("density", 9)):
        query = {"min_confidence": 0, "min_area_m2": 0}
        answer = client.get(f"/tiles/{kind}/{z}/0/0", params=query)
        assert (answer.status_code, answer.content) == (204, b"")


def test_an_image_that_breaks_off_is_told(out, tmp_path):
    random = np.random.default_rng(0).integers(1, 255, (3, SIDE_PX, SIDE_PX), dtype=np.uint8)
    image = write_image(tmp_path / "cut.tif", random, compress="deflate")
    with serving(out, [image]) as url:
        image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
        answer = httpx.get(f"{url}/tiles/images/{tile_of(*KAMPALA, 15)}")
    assert answer.status_code == 500
    assert "cut.tif" in json.loads(answer.text)["error"]


def test_grey_images_are_shown(out, tmp_path):
    grey = np.full((1, SIDE_PX, SIDE_PX), 90, np.uint8)
    with serving(out, [write_image(tmp_path / "grey.tif", grey)]) as url:
        answer = httpx.get(f"{url}/tiles/images/{tile_of(*KAMPALA, 18)}")
    assert answer.headers["content-type"] == "image/jpeg"
    with rasterio.open(io.BytesIO(answer.content)) as picture:
        assert np.abs(picture.read().astype(int) - 90).max() <= 3


def test_an_image_elsewhere_is_said_to_be_elsewhere(out, tmp_path):
    far = write_image(tmp_path / "far.tif", np.full((3, 50, 50), 9, np.uint8), place=(100.0, 50.0))
    (problem,) = open_scene(str(out), [str(far)]).problems[:1]
    assert "far.tif does not overlap the footprints: it lies at latitude 50.0000" in problem


def test_an_image_without_a_place_is_refused(out, tmp_path):
    lost = tmp_path / "lost.tif"
    with rasterio.open(
        lost, "w", driver="GTiff", width=9, height=9, count=3, dtype="uint8"
    ) as file:
        file.write(np.ones((3, 9, 9), np.uint8))
    with pytest.raises(RasterError, match=r"lost\.tif"):
        open_scene(str(out), [str(lost)])


def test_an_unfinished_run_is_not_opened(tmp_path):
    (tmp_path / "footprints").mkdir()
    with pytest.raises(DatasetError, match=r"no manifest\.json"):
        open_scene(str(tmp_path))


def test_an_empty_dataset_opens(tmp_path):
    out = write_dataset(tmp_path / "out", draw_footprints(10).slice(0, 0))
    with serving(out) as url:
        assert httpx.get(url).status_code == 200
        params = {**WHOLE, "min_confidence": 0, "min_area_m2": 0}
        assert httpx.get(f"{url}/api/summary", params=params).json()["num_all"] == 0
        assert httpx.get(f"{url}/tiles/footprints/14/0/0").status_code == 204


def test_a_taken_port_is_passed_over():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] < port + 20


def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(OSError, match="assign"):
        bind("203.0.113.7", 0)
