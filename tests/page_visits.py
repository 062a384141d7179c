"""A visit to the page of `everyroof view`, which tells on itself, and what the files say."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from playwright.sync_api import Browser, BrowserContext, Page

# A drawn screen: these machines have no graphics card. As root, Chromium's sandbox cannot start.
ARGUMENTS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
SECONDS = 30_000
SCREEN = {"width": 1280, "height": 800}


@dataclass
class View:
    """A page of the viewer, as a person has it before them."""

    page: Page
    url: str
    out: Path
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def open(self, place: str = "") -> "View":
        self.page.goto(f"{self.url}{place}")
        return self.settle()

    def settle(self) -> "View":
        """Wait until the map has drawn all it wants to, and the counts are those of the map."""
        self.page.wait_for_timeout(350)
        self.page.wait_for_selector("#stage[aria-busy=false]", timeout=SECONDS)
        self.page.wait_for_timeout(150)
        return self

    def map_value(self, expression: str) -> Any:
        return self.page.evaluate(
            f"(() => {{ const map = everyroof.map; return {expression}; }})()"
        )

    def bounds(self) -> dict[str, float]:
        return self.map_value(
            "{west: map.getBounds().getWest(), east: map.getBounds().getEast(), "
            "south: map.getBounds().getSouth(), north: map.getBounds().getNorth()}"
        )

    def shown_count(self) -> int:
        return int(self.page.locator("#count").inner_text().replace(",", ""))

    def true_count(self, min_confidence: float = 0.0, min_area_m2: float = 0.0) -> int:
        """The number that duckdb finds in the files for what the map shows."""
        return rows(self.out, self.bounds(), min_confidence, min_area_m2, "count(*)")[0][0]

    def canvas(self) -> dict[str, float]:
        return self.page.locator("#map canvas").bounding_box()

    def on_screen(self, lon: float, lat: float) -> tuple[float, float]:
        """Where a place of the map is on the screen, in pixels of the page."""
        at, box = self.map_value(f"map.project([{lon}, {lat}])"), self.canvas()
        return box["x"] + at["x"], box["y"] + at["y"]

    def field(self, name: str) -> str:
        """What the details say."""
        term = self.page.locator("#fields dt", has_text=re.compile(f"^{name}$"))
        return term.locator("xpath=following-sibling::dd[1]").inner_text()

    def middle_building(self, min_confidence: float = 0.0) -> dict[str, Any]:
        """The building nearest to the middle of the map that is not small, within a limit."""
        box = self.bounds()
        lon, lat = (box["west"] + box["east"]) / 2, (box["south"] + box["north"]) / 2
        names = "id, longitude, latitude, area_in_meters, confidence, full_plus_code, image_id"
        order = f"ORDER BY (longitude - {lon})**2 + (latitude - {lat})**2 LIMIT 1"
        (row,) = rows(self.out, box, min_confidence, 30, names, order)
        return dict(zip(names.split(", "), row, strict=True))


def rows(
    out: Path, box: dict[str, float], confidence: float, area: float, what: str, order: str = ""
) -> list[tuple[Any, ...]]:
    query = (
        f"SELECT {what} FROM '{out}/footprints/*.parquet' "
        f"WHERE longitude BETWEEN {box['west']} AND {box['east']} "
        f"AND latitude BETWEEN {box['south']} AND {box['north']} "
        f"AND confidence >= {confidence} AND area_in_meters >= {area} {order}"
    )
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


class Ignored(list):
    """Errors, those that the browser itself prints for an answer such as 404 left out."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def append(self, error: str) -> None:
        if self._text not in error:
            super().append(error)


@contextmanager
def visiting(browser: Browser, url: str, out: Path, **options: Any) -> Iterator[View]:
    """A page that must neither complain nor ask anyone but its server."""
    context: BrowserContext = browser.new_context(**{"viewport": SCREEN, **options})
    context.set_default_timeout(SECONDS)
    view = View(page=context.new_page(), url=url, out=out)
    page = view.page
    page.on(
        "console", lambda m: view.errors.append(m.text) if m.type in ("error", "warning") else 0
    )
    page.on("pageerror", lambda error: view.errors.append(str(error)))
    context.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((url, "data:", "blob:"))
            else view.foreign.append(request.url)
        ),
    )
    yield view
    context.close()
    assert view.errors == []
    assert view.foreign == []
