"""The page of `everyroof view`, driven as a person would; numbers are checked against the files."""

import io
import re
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pluscodes
import pytest
import rasterio
from conftest import SHARED_DATA
from drawn_footprints import draw_footprints
from page_visits import Ignored, rows, visiting
from PIL import Image
from playwright.sync_api import Browser, expect
from running import make_config, run_here
from small_datasets import write_dataset
from view_server import serving

from pipeline.viewer.exported_page import export_page
from pipeline.viewer.scene import open_scene

ROOT = Path(__file__).resolve().parents[2]
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


def slide(view, name: str, presses: int) -> None:
    """Move a slider by its arrow keys."""
    slider = view.page.get_by_role("slider", name=re.compile(name))
    slider.focus()
    for _ in range(presses):
        slider.press("ArrowRight")
    view.settle()


def drag(view, start: tuple[float, float], end: tuple[float, float]) -> None:
    view.page.mouse.move(*start)
    view.page.mouse.down()
    view.page.mouse.move(*end, steps=8)
    view.page.mouse.up()
    view.settle()


def middle(view) -> tuple[float, float]:
    box = view.canvas()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def picture(view) -> np.ndarray:
    image = Image.open(io.BytesIO(view.page.locator("#stage").screenshot()))
    return np.asarray(image.convert("RGB")).astype(int)


def search(view, text: str) -> None:
    view.page.get_by_label("Find a place or a building").fill(text)
    view.page.get_by_role("button", name="Find").click()
    view.settle()


def test_it_opens_on_all_footprints(view, town):
    view.open()
    total = len(geopandas.read_parquet(town / "footprints"))
    assert view.shown_count() == view.true_count() == total > 100
    expect(view.page).to_have_title(re.compile("out"))
    expect(view.page.get_by_role("heading", level=1)).to_contain_text("out")
    expect(view.page.locator("#answer")).to_be_empty()
    drawn = view.map_value("map.queryRenderedFeatures({layers: ['footprints']}).map((f) => f.id)")
    assert len(set(drawn)) == total


def test_counts_follow_the_hand(view):
    view.open()
    whole = view.shown_count()
    x, y = middle(view)
    view.page.mouse.move(x, y)
    view.page.mouse.wheel(0, -400)
    view.page.wait_for_timeout(600)
    view.settle()
    assert 0 < view.shown_count() == view.true_count() < whole
    before = view.bounds()
    drag(view, (x, y), (x - 260, y - 120))
    assert view.bounds()["west"] > before["west"]
    assert view.shown_count() == view.true_count()
    view.page.get_by_role("button", name="Zoom in").click()
    view.page.wait_for_timeout(600)
    view.settle()
    assert view.shown_count() == view.true_count()
    place = view.page.url.split("#")[1]
    seen = view.bounds()
    view.page.reload()  # the address holds the place
    view.settle()
    assert view.page.url.split("#")[1] == place
    assert view.bounds()["west"] == pytest.approx(seen["west"], abs=1e-5)


def test_sliders_keep_what_they_say(view):
    view.open()
    assert view.page.get_by_label(re.compile("confidence of at least")).input_value() == "0"
    slide(view, "area", 9)  # 60 m2
    expect(view.page.locator("#area-value")).to_have_text("60 m²")
    assert 0 < view.shown_count() == view.true_count(min_area_m2=60) < view.true_count()
    slide(view, "confidence", 60)
    expect(view.page.locator("#confidence-value")).to_have_text("60 %")
    assert view.shown_count() == view.true_count(0.6, 60)
    drawn = view.map_value("map.queryRenderedFeatures({layers: ['footprints']}).map((f) => f.id)")
    assert len(set(drawn)) == view.shown_count()
    said = view.page.get_by_role("slider", name=re.compile("area of at least"))
    assert said.get_attribute("aria-valuetext") == "at least 60 m²"
    expect(view.page.locator("#count-detail")).to_contain_text(
        f"of {view.true_count():,} without limits"
    )
    expect(view.page.locator("#announcer")).to_contain_text(f"of {view.true_count():,} ")


def test_the_histogram_is_that_of_the_view(view):
    view.open()
    view.page.mouse.move(*middle(view))
    view.page.mouse.wheel(0, -300)
    view.page.wait_for_timeout(600)
    view.settle()
    slide(view, "area", 6)  # 30 m2
    bars = view.page.locator("#sizes rect.kept")
    box = view.bounds()
    areas = np.array([row[0] for row in rows(view.out, box, 0, 30, "area_in_meters")])
    edges = 5 * 2 ** (np.arange(25) / 2)
    classes = np.unique(np.searchsorted(edges, areas, side="right"))
    assert bars.count() == len(classes)
    assert "Half are below about" in view.page.locator("#sizes").get_attribute("aria-label")


def test_a_click_tells_what_is_known_and_copies_the_plus_code(view):
    view.open("#map=18/0.3985/32.6015")
    building = view.middle_building()
    view.page.mouse.click(*view.on_screen(building["longitude"], building["latitude"]))
    expect(view.page.get_by_role("heading", name="Building", exact=True)).to_be_visible()
    assert building["full_plus_code"] in view.field("Plus Code")
    assert view.field("Area") == f"{building['area_in_meters']:.1f} m²"
    assert view.field("Confidence") == f"{building['confidence'] * 100:.0f} %"
    assert view.field("Image date") == "not known"
    assert view.field("Model")
    assert view.field("Image") == building["image_id"] == "town"
    assert building["id"] in view.field("Id")
    view.page.get_by_role("button", name="Copy the Plus Code").click()
    expect(view.page.get_by_role("button", name="Copy the Plus Code")).to_have_text("Copied")
    copied = view.page.evaluate("navigator.clipboard.readText()")
    assert copied == building["full_plus_code"]
    expect(view.page.locator("#announcer")).to_contain_text("Copied")
    marked = view.map_value("map.querySourceFeatures('picked').length")
    assert marked > 0
    view.page.keyboard.press("Escape")
    expect(view.page.locator("#building")).to_be_hidden()
    assert view.map_value("map.querySourceFeatures('picked').length") == 0


def test_search_finds_codes_places_and_ids(view):
    view.open("#map=17/0.3985/32.6015")
    building = view.middle_building()
    lat, lon = building["latitude"], building["longitude"]
    code = building["full_plus_code"]
    texts = [
        code,
        code.lower(),
        f"{code[4:]} Kampala",
        f"{lat}, {lon}",
        f"{lat:.7f}N {lon:.7f}E",
        f"E {lon:.7f}, N {lat:.7f}",
        f"geo:{lat},{lon}",
        building["id"],
    ]
    for text in texts:
        view.page.keyboard.press("Escape")
        search(view, text)
        expect(view.page.locator("#building")).to_be_visible()
        assert building["id"] in view.field("Id"), text
        centre = view.map_value("map.getCenter()")
        assert centre["lat"] == pytest.approx(lat, abs=2e-5)
        assert centre["lng"] == pytest.approx(lon, abs=2e-5)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "Type a Plus Code"),
        ("<b>nowhere</b>", "neither a Plus Code"),
        ("6GGJ8H7R+2", "neither a Plus Code"),
        ("95, 10", "neither a Plus Code"),
        ("z36_g300mm_r-1_c1", "No building has this id"),
        ("10.5, 20.25", "no building within the limits"),
    ],
)
def test_a_search_in_vain_says_so(view, text, answer):
    view.open()
    if "id" in answer:
        view.errors = Ignored("404")
    search(view, text)
    expect(view.page.locator("#answer")).to_contain_text(answer)
    expect(view.page.locator("#answer b")).to_have_count(0)


def test_the_divider_hides_footprints_on_its_left(view):
    view.open("#map=17.5/0.3985/32.6015")
    view.page.get_by_label(re.compile("Swipe")).check()
    view.settle()
    divider = view.page.get_by_role("slider", name=re.compile("Divider"))
    box = divider.bounding_box()
    canvas = view.canvas()
    target = canvas["x"] + canvas["width"] * 0.7
    drag(view, (box["x"] + 22, box["y"] + 300), (target, box["y"] + 300))
    assert int(divider.get_attribute("aria-valuenow")) == 70
    view.page.wait_for_timeout(1000)
    with_footprints = picture(view)
    view.page.get_by_label("Footprints", exact=True).uncheck()
    view.settle()
    without = picture(view)
    split = int(canvas["width"] * 0.7)
    differs = np.abs(with_footprints - without).max(axis=2) > 24
    assert differs[:, : split - 30].mean() < 0.002
    assert differs[:, split + 30 :].mean() > 0.05
    divider.focus()
    for key, value in (
        ("ArrowLeft", 68),
        ("PageUp", 78),
        ("Home", 0),
        ("ArrowLeft", 0),
        ("End", 100),
    ):
        divider.press(key)
        assert int(divider.get_attribute("aria-valuenow")) == value


def test_footprints_under_the_image_alone_cannot_be_picked(view):
    view.open("#map=18/0.3985/32.6015")
    building = view.middle_building()
    view.page.get_by_label(re.compile("Swipe")).check()
    view.page.get_by_role("slider", name=re.compile("Divider")).press("End")
    view.page.mouse.click(*view.on_screen(building["longitude"], building["latitude"]))
    expect(view.page.locator("#announcer")).to_contain_text("in view")
    expect(view.page.locator("#building")).to_be_hidden()


def test_the_ledger_says_what_became_of_the_ground(view, town):
    view.open()
    view.page.get_by_label("Footprints", exact=True).uncheck()
    view.page.get_by_label("Ground worked on").check()
    view.settle()
    ledger = geopandas.read_parquet(town / "tiles.parquet")
    for status, number in ledger["status"].value_counts().items():
        words = {"ok": "buildings found", "empty": "no building", "nodata": "no valid pixel"}[
            status
        ]
        expect(view.page.locator("#ledger-legend")).to_contain_text(f"{words}: {number} tiles")
    tile = ledger[ledger["status"] == "ok"].iloc[0]
    centre = tile.geometry.centroid
    view.page.mouse.click(*view.on_screen(centre.x, centre.y))
    expect(view.page.get_by_role("heading", name="Ground worked on")).to_be_visible()
    assert view.field("Tile") == tile["tile"]
    assert view.field("Found").startswith(f"{tile['num_instances']} building")


def test_all_of_it_by_keyboard_alone(view):
    view.open("#map=18/0.3985/32.6015")
    building = view.middle_building()
    view.open(f"#map=19/{building['latitude']}/{building['longitude']}")
    seen = []
    for _ in range(20):
        view.page.keyboard.press("Tab")
        seen.append(
            view.page.evaluate(
                "(() => { const e = document.activeElement; "
                "return e.id || e.getAttribute('aria-label') || e.className || e.tagName; })()"
            )
        )
        if seen[-1] == "Zoom out":
            break
    order = [
        name for name in seen if name in ("query", "confidence", "area", "show-footprints", "swipe")
    ]
    assert order == ["query", "confidence", "area", "show-footprints", "swipe"]
    assert any(name.startswith("Map of the footprints") for name in seen)
    canvas = view.page.get_by_role("region", name=re.compile("Map of the footprints"))
    canvas.focus()
    view.page.keyboard.press("Enter")
    expect(view.page.locator("#building")).to_be_visible()
    assert building["id"] in view.field("Id")
    before = view.bounds()
    view.page.keyboard.press("ArrowRight")
    view.page.wait_for_timeout(800)
    view.settle()
    assert view.bounds()["west"] > before["west"]
    view.page.keyboard.press("Escape")
    expect(view.page.locator("#building")).to_be_hidden()


def test_text_is_never_taken_for_markup(chromium: Browser, town, tmp_path):
    """Names come from files and folders of anyone."""

    evil = tmp_path / "<img src=x onerror=alert(1)>"
    shutil.copytree(town, evil)
    with serving(evil) as url, visiting(chromium, url, evil) as view:
        view.open()
        expect(view.page.get_by_role("heading", level=1)).to_contain_text("<img src=x")
        assert view.page.locator("h1 img").count() == 0


def test_on_a_phone(chromium: Browser, town, town_url):

    with visiting(chromium, town_url, town, **PHONE) as view:
        view.open("#map=18/0.3985/32.6015")
        assert view.page.evaluate("document.documentElement.scrollWidth") == 390
        assert view.shown_count() == view.true_count()
        height = view.canvas()["height"]
        view.page.get_by_role("button", name="Less").tap()
        view.settle()
        assert view.canvas()["height"] > height + 200
        assert view.shown_count() == view.true_count()
        building = view.middle_building()
        view.page.touchscreen.tap(*view.on_screen(building["longitude"], building["latitude"]))
        view.page.get_by_role("button", name="More").tap()
        expect(view.page.locator("#building")).to_be_visible()
        assert building["id"] in view.field("Id")


def test_dark_and_light(chromium: Browser, town, town_url):

    with visiting(chromium, town_url, town, color_scheme="dark") as view:
        view.open("#map=12/0.6/32.6")  # beside the image: nothing but paper
        dark = picture(view)[:, :, :].mean()
        view.page.get_by_role("button", name="Light").click()
        view.settle()
        assert dark < 60 < 200 < picture(view).mean()


def test_the_exported_page_needs_no_server(chromium: Browser, town, tmp_path):

    path = tmp_path / "page.html"
    exported = export_page(open_scene(str(town)), path)
    assert exported.num_bytes == path.stat().st_size
    with visiting(chromium, path.as_uri(), town) as view:
        view.open()
        assert view.shown_count() == view.true_count() == exported.num_footprints
        slide(view, "area", 9)
        slide(view, "confidence", 60)
        assert view.shown_count() == view.true_count(0.6, 60)
        drawn = view.map_value(
            "map.queryRenderedFeatures({layers: ['footprints']}).map((f) => f.id)"
        )
        assert len(set(drawn)) == view.shown_count()
    with visiting(chromium, path.as_uri(), town) as view:
        view.open("#map=18/0.3985/32.6015")
        building = view.middle_building()
        view.page.mouse.click(*view.on_screen(building["longitude"], building["latitude"]))
        assert building["full_plus_code"] in view.field("Plus Code")
        assert view.field("Area") == f"{building['area_in_meters']:.1f} m²"
        search(view, building["id"])
        assert building["id"] in view.field("Id")
        with_image = picture(view)
        view.page.get_by_label("Image", exact=True).uncheck()
        view.settle()
        assert np.abs(picture(view) - with_image).mean() > 10
        view.page.get_by_label("Ground worked on").check()
        view.settle()
        expect(view.page.locator("#ledger-legend")).to_contain_text("buildings found")


def test_an_empty_dataset_opens_and_says_so(chromium: Browser, tmp_path):
    out = write_dataset(tmp_path / "out", draw_footprints(9).slice(0, 0))
    with serving(out) as url, visiting(chromium, url, out) as view:
        view.open()
        assert view.shown_count() == 0
        expect(view.page.locator("#notes")).to_contain_text("holds no footprints")
        expect(view.page.get_by_label(re.compile("Swipe"))).to_be_disabled()


def test_what_cannot_be_shown_is_said(chromium: Browser, town, tmp_path):

    image = tmp_path / "cut.tif"
    image.write_bytes((town.parent / "town.tif").read_bytes())
    with serving(town, [image]) as url, visiting(chromium, url, town) as view:
        view.errors = Ignored("500")
        with image.open("r+b") as file:
            file.truncate(image.stat().st_size // 4)
        view.open()
        expect(view.page.locator("#notes")).to_contain_text("cannot read")
        expect(view.page.locator("#notes")).to_contain_text("cut.tif")
        assert view.shown_count() == view.true_count()


# --- the page's own reading of Plus Codes and coordinates ----------------------------------------


def test_plus_codes_are_those_of_the_reference(view):
    random = np.random.default_rng(3)
    codes, cells = [], []
    for lat, lon in zip(random.uniform(-89, 89, 60), random.uniform(-180, 180, 60), strict=True):
        for length in (2, 4, 6, 8, 10, 11, 12, 15):
            code = pluscodes.encode(lat, lon, length)
            codes.append(code)
            cells.append(pluscodes.decode(code))
    view.open()
    found = view.page.evaluate(
        "async (codes) => { const { parsePlusCode } = await import('everyroof/pluscodes'); "
        "return codes.map((code) => parsePlusCode(code, {lat: 0, lng: 0})); }",
        codes,
    )
    for code, cell, answer in zip(codes, cells, found, strict=True):
        assert answer["south"] == pytest.approx(cell.sw.lat, abs=2e-9), code
        assert answer["west"] == pytest.approx(cell.sw.lon, abs=2e-9), code
        assert answer["north"] == pytest.approx(cell.ne.lat, abs=2e-9), code
        assert answer["east"] == pytest.approx(cell.ne.lon, abs=2e-9), code


def test_short_codes_mean_the_nearest_place(view):
    random = np.random.default_rng(4)
    cases = []
    for lat, lon in zip(random.uniform(-80, 80, 80), random.uniform(-179, 179, 80), strict=True):
        code = pluscodes.encode(lat, lon, 10)
        for removed, reach in ((4, 0.4), (6, 0.02)):
            near = lat + random.uniform(-reach, reach), lon + random.uniform(-reach, reach)
            cases.append((code, code[removed:], *near))
    view.open()
    found = view.page.evaluate(
        "async (cases) => { const { parsePlusCode } = await import('everyroof/pluscodes'); "
        "return cases.map(([, short, lat, lng]) => parsePlusCode(short, {lat, lng})); }",
        cases,
    )
    for (code, short, *_), answer in zip(cases, found, strict=True):
        cell = pluscodes.decode(code)
        assert answer["south"] == pytest.approx(cell.sw.lat, abs=1e-8), (code, short)
        assert answer["west"] == pytest.approx(cell.sw.lon, abs=1e-8), (code, short)


NOTATIONS = {
    "27.63, 85.52": (27.63, 85.52),
    "27.63 85.52": (27.63, 85.52),
    "-27.63;-85.52": (-27.63, -85.52),
    "27,63; 85,52": (27.63, 85.52),
    "geo:27.63,85.52?z=15": (27.63, 85.52),
    "@27.63,85.52,17z": (27.63, 85.52),
    "27.63N 85.52W": (27.63, -85.52),
    "E85.52 S27.63": (-27.63, 85.52),
    "27°37'48\"N 85°31'12\"E": (27.63, 85.52),
    "27° 37.8′ N, 85° 31.2′ E": (27.63, 85.52),
    "27 37 48 S 85 31 12 E": (-27.63, 85.52),
    "91, 10": None,
    "27 72 00 N 85 31 12 E": None,
    "27N 85N": None,
    "Kampala": None,
    "12": None,
}


def test_coordinates_are_read_as_people_write_them(view):
    view.open()
    found = view.page.evaluate(
        "async (texts) => { const { parseCoordinates } = await import('everyroof/coordinates'); "
        "return texts.map(parseCoordinates); }",
        list(NOTATIONS),
    )
    for (text, expected), answer in zip(NOTATIONS.items(), found, strict=True):
        if expected is None:
            assert answer is None, text
        else:
            assert answer is not None, text
            assert (answer["lat"], answer["lng"]) == pytest.approx(expected), text


# --- a real place --------------------------------------------------------------------------------


def test_banepa(chromium: Browser, tmp_path):
    source = SHARED_DATA / "scenes" / "banepa.tif"
    if not source.exists():
        pytest.skip("no real imagery: ../shared/data does not exist beside the repository")
    image, weights = tmp_path / "banepa.tif", ROOT / "model/weights/everyroof.safetensors"
    with rasterio.open(source) as scene:
        window = rasterio.windows.Window(5000, 4000, 1500, 1200)
        profile = {**scene.profile, "transform": scene.window_transform(window)}
        profile |= {"width": window.width, "height": window.height, "driver": "GTiff"}
        with rasterio.open(image, "w", **profile) as part:
            part.write(scene.read(window=window))
    run_here(make_config(tmp_path, [image], model=str(weights), grid={"tile_px": 1024}))
    with serving(tmp_path / "out") as url, visiting(chromium, url, tmp_path / "out") as view:
        view.open()
        assert view.shown_count() == view.true_count() > 50
        slide(view, "confidence", 50)
        assert view.shown_count() == view.true_count(0.5)
        centre = view.map_value("map.getCenter()")
        view.open(f"#map=19/{centre['lat']}/{centre['lng']}")
        # Only the place changes with the address: the limit is still set.
        building = view.middle_building(min_confidence=0.5)
        view.page.mouse.click(*view.on_screen(building["longitude"], building["latitude"]))
        assert building["full_plus_code"] in view.field("Plus Code")
        with_image = picture(view)
        assert with_image.std() > 20
