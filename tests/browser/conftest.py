"""Chromium, and a town with its result."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic
from page_visits import ARGUMENTS, View, visiting
from playwright.sync_api import Browser, sync_playwright
from running import make_config, run_here
from view_server import serving

TOWN_PX = 1200


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; skips where there is none."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if path is None:
        pytest.skip("no Chromium: make chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of a run on a drawn town; its image lies beside it."""
    folder = tmp_path_factory.mktemp("town")
    image = synthetic.write_town(folder / "town.tif", synthetic.draw_town(TOWN_PX, TOWN_PX))
    run_here(make_config(folder, [image]))
    return folder / "out"


@pytest.fixture(scope="session")
def town_url(town: Path) -> Iterator[str]:
    with serving(town) as url:
        yield url


@pytest.fixture
def view(chromium: Browser, town: Path, town_url: str) -> Iterator[View]:
    with visiting(
        chromium, town_url, town, permissions=["clipboard-read", "clipboard-write"]
    ) as view:
        yield view
