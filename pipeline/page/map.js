// The map: sources, layers, colours, and what lies under a point.

const maplibregl = window.maplibregl;

// Okabe-Ito colours, which colour-blind eyes tell apart too: orange is doubtful, blue is sure.
export const RAMP = [[0, "#b34700"], [0.25, "#e06c1a"], [0.5, "#f2c14e"], [0.75, "#5ab4e5"], [1, "#0060a8"]];

const EMPTY = { type: "FeatureCollection", features: [] };
const GRID_STEPS_DEG = [30, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002];
const PICK_PX = 4;

export function makeMap(container, description, { isAlone = false } = {}) {
  const [west, south, east, north] = description.bounds ?? [-180, -60, 180, 75];
  const map = new maplibregl.Map({
    container,
    style: { version: 8, sources: {}, layers: [{ id: "paper", type: "background", paint: { "background-color": colour("--paper") } }] },
    bounds: [[west, south], [east, north]],
    fitBoundsOptions: { padding: 24, maxZoom: 18 },
    hash: isAlone ? false : "map",
    interactive: !isAlone,
    maxZoom: 22,
    maxPitch: 0,
    dragRotate: false,
    pitchWithRotate: false,
    touchPitch: false,
    fadeDuration: 0,
    attributionControl: false,
    locale: { "Map.Title": "Map of the footprints. Arrow keys move it, plus and minus zoom, Enter reads the building in the middle." },
  });
  if (isAlone) return map;
  map.touchZoomRotate.disableRotation();
  map.keyboard.disableRotation();
  map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "top-right");
  map.addControl(new maplibregl.ScaleControl({ maxWidth: 120, unit: "metric" }), "bottom-right");
  return map;
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function addImage(map, data) {
  if (data.image === null) return;
  map.addSource("image", data.image.source);
  map.addLayer({ id: "image", type: "raster", source: "image", paint: { "raster-fade-duration": 0 } });
}

export function addLayers(map, data, description, limits) {
  const steps = description.confidence_steps;
  const byConfidence = ["interpolate", ["linear"], ["get", "c"], ...RAMP.flatMap(([share, ink]) => [share * steps, ink])];
  map.addSource("grid", { type: "geojson", data: EMPTY });
  map.addLayer({ id: "grid", type: "line", source: "grid", paint: { "line-color": colour("--grid") } });
  addImage(map, data);
  if (data.ledger !== null) addLedger(map, data, description);
  if (data.density !== null) {
    map.addSource("density", data.density.source(limits));
    map.addLayer({
      id: "density", type: "fill", source: "density", ...data.density.layer, maxzoom: data.footprints.minzoom,
      paint: { "fill-color": byConfidence, "fill-antialias": false, "fill-opacity": densityOpacity },
    });
  }
  map.addSource("footprints", data.footprints.source);
  const outlines = { source: "footprints", ...data.footprints.layer, minzoom: data.footprints.minzoom };
  map.addLayer({ id: "footprints", type: "fill", ...outlines, paint: { "fill-color": byConfidence, "fill-opacity": 0.75 } });
  map.addLayer({
    id: "outlines", type: "line", ...outlines,
    paint: { "line-color": byConfidence, "line-width": ["interpolate", ["linear"], ["zoom"], 14, 0.4, 17, 1.6, 20, 2.5] },
  });
  map.addSource("picked", { type: "geojson", data: EMPTY });
  map.addLayer({ id: "picked-halo", type: "line", source: "picked", paint: { "line-color": "#ffffff", "line-width": 6 } });
  map.addLayer({ id: "picked", type: "line", source: "picked", paint: { "line-color": colour("--pick"), "line-width": 3 } });
  map.on("move", () => drawGrid(map));
  drawGrid(map);
}

// Each tenfold density adds a quarter; a cell of one building is never quite invisible.
const densityOpacity = ["interpolate", ["linear"], ["get", "d"], 0, 0.25, 400, 0.95];

function addLedger(map, data, description) {
  const ink = ["match", ["get", "s"], ...description.statuses.flatMap(({ colour: fill }, place) => [place, fill]), "#000000"];
  const source = { source: "ledger", ...data.ledger.layer, layout: { visibility: "none" } };
  map.addSource("ledger", data.ledger.source);
  // Ground where buildings were found is only outlined, so that their colours stay what they are.
  const ok = description.statuses.findIndex(({ name }) => name === "ok");
  const strength = ["match", ["get", "s"], ok, 0.04, 0.45];
  map.addLayer({ id: "ledger", type: "fill", ...source, paint: { "fill-color": ink, "fill-opacity": strength } });
  map.addLayer({ id: "ledger-edges", type: "line", ...source, paint: { "line-color": ink, "line-width": 1.5 } });
}

export function setLimits(map, data, description, limits) {
  const steps = description.confidence_steps;
  const filter = ["all", [">=", ["get", "c"], Math.ceil(limits.confidence * steps)], [">=", ["get", "a"], limits.area]];
  for (const layer of ["footprints", "outlines"]) map.setFilter(layer, filter);
}

export function setDensityLimits(map, data, limits) {
  if (data.density !== null) data.density.setLimits(map.getSource("density"), limits);
}

export function show(map, layers, isShown) {
  for (const layer of layers.filter((name) => map.getLayer(name))) {
    map.setLayoutProperty(layer, "visibility", isShown ? "visible" : "none");
  }
}

export function setOverImage(map, isOverImage) {
  map.setPaintProperty("footprints", "fill-opacity", isOverImage ? 0.3 : 0.75);
}

export function repaint(map) {
  map.setPaintProperty("paper", "background-color", colour("--paper"));
  if (!map.getLayer("picked")) return;
  map.setPaintProperty("grid", "line-color", colour("--grid"));
  map.setPaintProperty("picked", "line-color", colour("--pick"));
}

export function mark(map, geometry) {
  const features = geometry === null ? [] : [{ type: "Feature", properties: {}, geometry }];
  map.getSource("picked").setData({ type: "FeatureCollection", features });
}

// What lies under a point of the map: {layer, id, properties} of the topmost thing, or null.
export function pick(map, { x, y }, isLedgerShown) {
  const layers = ["footprints", "density", ...(isLedgerShown ? ["ledger"] : [])].filter((name) => map.getLayer(name));
  const box = [[x - PICK_PX, y - PICK_PX], [x + PICK_PX, y + PICK_PX]];
  const found = map.queryRenderedFeatures([x, y], { layers })[0]
    ?? map.queryRenderedFeatures(box, { layers: layers.slice(0, 1) })[0];
  return found ? { layer: found.layer.id, id: found.id, properties: found.properties } : null;
}

export function boundsOf(map) {
  const bounds = map.getBounds();
  return { west: bounds.getWest(), south: bounds.getSouth(), east: bounds.getEast(), north: bounds.getNorth() };
}

export function goTo(map, camera) {
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (isCalm) map.jumpTo(camera);
  else map.flyTo({ ...camera, maxDuration: 1200 });
}

// Lines of longitude and latitude, a few of each, so that empty paper moves under the hand.
function drawGrid(map) {
  const { west, south, east, north } = boundsOf(map);
  const step = GRID_STEPS_DEG.find((size) => (east - west) / size > 4) ?? GRID_STEPS_DEG.at(-1);
  if (step === map.gridStep && contains(map.gridBounds, { west, south, east, north })) return;
  const [padX, padY] = [east - west, north - south];
  const box = { west: west - padX, south: Math.max(south - padY, -85), east: east + padX, north: Math.min(north + padY, 85) };
  const lines = [];
  for (let k = Math.ceil(box.west / step); k * step < box.east; k++) lines.push([[k * step, box.south], [k * step, box.north]]);
  for (let k = Math.ceil(box.south / step); k * step < box.north; k++) lines.push([[box.west, k * step], [box.east, k * step]]);
  Object.assign(map, { gridStep: step, gridBounds: box });
  map.getSource("grid").setData({ type: "MultiLineString", coordinates: lines });
}

function contains(outer, inner) {
  return outer && outer.west <= inner.west && outer.east >= inner.east
    && outer.south <= Math.max(inner.south, -85) && outer.north >= Math.min(inner.north, 85);
}
