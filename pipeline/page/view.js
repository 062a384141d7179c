// The page: puts the data, the map and the panel together.

import { hideDetails, showBuilding, showCell, showTile } from "everyroof/details";
import { inlinedData } from "everyroof/inlined";
import {
  addLayers, boundsOf, goTo, makeMap, mark, pick, repaint, setDensityLimits, setLimits, setOverImage, show,
} from "everyroof/map";
import {
  announce, drawLegend, element, note, readLimits, showFacts, showProgress, showSummary, startLimits,
} from "everyroof/panel";
import { answer, startSearch, whereWords, zoomOf } from "everyroof/search";
import { servedData } from "everyroof/served";
import { makeSwipe } from "everyroof/swipe";

const REQUERY_MS = 250;
const POLL_MS = 400;
const BUILDING_ZOOM = 19;

const description = JSON.parse(element("description").textContent);
startTheme();
showFacts(description);
drawLegend();
description.problems.forEach((problem) => note(problem));
for (const { image, reason } of description.failed_images) note(`Image ${image} could not be used: ${reason}`);
if (description.num_footprints === 0) note("This dataset holds no footprints; “Ground worked on” shows what was looked at.");

const data = await (description.source === "served" ? servedData : inlinedData)(description);
const map = makeMap(element("map"), description);
window.everyroof = { map, description }; // for the browser's console
const swipe = makeSwipe(map, data, description);

map.on("error", async ({ error }) => {
  const said = await error.body?.text().catch(() => "");
  let words = error.message;
  try { words = JSON.parse(said).error ?? words; } catch { /* not ours: the message will do */ }
  note(words);
  map.triggerRepaint(); // after a tile that failed MapLibre does not look again whether it is idle
});

// The style is ready long before the first tiles, which `load` would wait for.
await new Promise((resolve) => { map.once("styledata", resolve); });
addLayers(map, data, description, readLimits());
startLayers();
startLimits(limitsChanged);
startSearch(map, found);
startPicking();
map.on("move", refreshCounts);
map.on("zoom", describeZoom);
map.on("resize", refreshCounts);
describeZoom();
watchProgress();
map.on("dataloading", () => element("stage").setAttribute("aria-busy", "true"));
map.on("idle", () => element("stage").setAttribute("aria-busy", "false"));

// --- counts: one question at a time, the latest wins ---------------------------------------------

function refreshCounts() {
  refreshCounts.isWanted = true;
  if (!refreshCounts.isBusy) askForCounts();
}

async function askForCounts() {
  refreshCounts.isBusy = true;
  while (refreshCounts.isWanted) {
    refreshCounts.isWanted = false;
    const limits = readLimits();
    try {
      showSummary(await data.summary(boundsOf(map), limits), limits, description);
    } catch (error) {
      note(`No counts: ${error.message}`);
    }
  }
  refreshCounts.isBusy = false;
}

function limitsChanged(limits) {
  setLimits(map, data, description, limits);
  refreshCounts();
  clearTimeout(limitsChanged.timer);
  const wasSet = limitsChanged.wasSet;
  limitsChanged.wasSet = true; // the first time, the tiles are asked for with these limits already
  if (wasSet) limitsChanged.timer = setTimeout(() => setDensityLimits(map, data, limits), REQUERY_MS);
}

async function watchProgress() {
  for (;;) {
    const progress = await data.progress();
    showProgress(progress);
    refreshCounts();
    if (progress.num_ready >= progress.num_all || progress.problem) return;
    await new Promise((resolve) => { setTimeout(resolve, POLL_MS); });
  }
}

function describeZoom() {
  element("density-words").hidden = map.getZoom() >= data.footprints.minzoom;
}

// --- picking ---------------------------------------------------------------------------------

function startPicking() {
  map.on("click", ({ point }) => { if (!swipe.hides(point.x)) pickAt(point); });
  map.on("mousemove", ({ point }) => {
    const isOver = !swipe.hides(point.x) && pick(map, point, element("show-ledger").checked) !== null;
    map.getCanvas().style.cursor = isOver ? "pointer" : "";
  });
  map.getCanvas().addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const { clientWidth, clientHeight } = map.getContainer();
    pickAt({ x: clientWidth / 2, y: clientHeight / 2 });
  });
  element("close").addEventListener("click", () => {
    closeDetails();
    map.getCanvas().focus();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeDetails(); });
}

async function pickAt(point) {
  const thing = pick(map, point, element("show-ledger").checked);
  if (thing === null) {
    closeDetails();
    announce("No building here");
  } else if (thing.layer === "footprints") {
    await openBuilding(await data.building(thing.id));
  } else if (thing.layer === "density") {
    mark(map, null);
    showCell(thing.properties, description);
  } else {
    mark(map, null);
    showTile(await data.ledgerTile(thing.id), description);
  }
}

async function openBuilding(building) {
  if (building === null) return;
  mark(map, building.outline);
  showBuilding(building);
}

function closeDetails() {
  mark(map, null);
  hideDetails();
}

// --- search ----------------------------------------------------------------------------------

async function found(meaning) {
  if (meaning.kind === "id") {
    const building = await data.find(meaning.id);
    if (building === null) {
      answer("No building has this id.", true);
      return;
    }
    goTo(map, { center: [building.lon, building.lat], zoom: BUILDING_ZOOM });
    await openBuilding(building);
    answer("Found.");
  } else if (meaning.kind === "code") {
    const { west, south, east, north, digits } = meaning.cell;
    const centre = { lng: (west + east) / 2, lat: (south + north) / 2 };
    arrive(centre, zoomOf(meaning.cell), digits >= 10);
    mark(map, { type: "Polygon", coordinates: [[[west, south], [east, south], [east, north], [west, north], [west, south]]] });
  } else {
    arrive(meaning, Math.max(map.getZoom(), 18), true);
    mark(map, cross(meaning));
  }
}

// Goes to a point, and reads the building that stands there.
function arrive(point, zoom, isExact) {
  goTo(map, { center: [point.lng, point.lat], zoom });
  answer(whereWords(point));
  if (!isExact) return;
  map.once("idle", async () => {
    const thing = pick(map, map.project([point.lng, point.lat]), false);
    if (thing?.layer !== "footprints") {
      answer(`${whereWords(point)}: no building within the limits`);
      return;
    }
    await openBuilding(await data.building(thing.id));
    answer(`${whereWords(point)}: a building`);
  });
}

function cross({ lng, lat }) {
  const high = 0.00004, wide = high / Math.cos((lat * Math.PI) / 180);
  return { type: "MultiLineString", coordinates: [[[lng - wide, lat], [lng + wide, lat]], [[lng, lat - high], [lng, lat + high]]] };
}

// --- layers and looks --------------------------------------------------------------------------

function startLayers() {
  const hasImage = data.image !== null;
  for (const id of ["show-image", "swipe"]) element(id).disabled = !hasImage;
  element("show-image").checked = hasImage;
  element("image-words").textContent = hasImage ? "Image" : "Image (none: name one with --image)";
  element("show-ledger").disabled = data.ledger === null;
  setOverImage(map, hasImage);
  listStatuses();
  const react = (id, action) => element(id).addEventListener("change", (event) => action(event.target.checked));
  react("show-footprints", (isShown) => show(map, ["footprints", "outlines", "density"], isShown));
  react("show-image", (isShown) => {
    show(map, ["image"], isShown);
    setOverImage(map, isShown);
  });
  react("show-ledger", (isShown) => {
    show(map, ["ledger", "ledger-edges"], isShown);
    element("ledger-legend").hidden = !isShown;
  });
  react("swipe", (isOn) => swipe.set(isOn));
  element("sheet").addEventListener("click", ({ target }) => {
    const isSmall = element("panel").classList.toggle("small");
    target.textContent = isSmall ? "More" : "Less";
    target.setAttribute("aria-expanded", String(!isSmall));
  });
}

function listStatuses() {
  const present = description.statuses.filter(({ name }) => description.tiles[name]);
  element("ledger-legend").replaceChildren(...present.map(({ name, colour, words }) => {
    const item = document.createElement("li"), swatch = document.createElement("i");
    swatch.className = "swatch";
    swatch.style.background = colour;
    item.append(swatch, `${words}: ${description.tiles[name].toLocaleString("en")} tiles`);
    return item;
  }));
}

function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const set = (isDark) => {
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    element("theme").textContent = isDark ? "Light" : "Dark";
    for (const drawn of [window.everyroof?.map, window.everyroof && swipe.map()]) if (drawn) repaint(drawn);
  };
  set(system.matches);
  system.addEventListener("change", (event) => set(event.matches));
  element("theme").addEventListener("click", () => set(document.documentElement.dataset.theme !== "dark"));
}
