// The data behind a served page: asked of the server that sent it.

export function servedData(description) {
  const root = location.origin;
  const version = `v=${description.version}`;
  const [first, last] = description.outline_zooms;

  async function ask(path, signal) {
    const response = await fetch(`${root}/api/${path}`, { signal });
    if (response.status === 404) return null;
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error ?? response.statusText);
    return answer;
  }

  return {
    footprints: {
      source: { type: "vector", tiles: [`${root}/tiles/footprints/{z}/{x}/{y}?${version}`], minzoom: first, maxzoom: last },
      layer: { "source-layer": "footprints" },
      minzoom: first,
    },
    // Cells below the first zoom of outlines; what they count depends on the limits.
    density: {
      layer: { "source-layer": "density" },
      source: (limits) => ({ type: "vector", tiles: densityUrls(limits), maxzoom: first - 1 }),
      setLimits: (source, limits) => source.setTiles(densityUrls(limits)),
    },
    ledger: Object.keys(description.tiles).length === 0 ? null : {
      source: { type: "vector", tiles: [`${root}/tiles/ledger/{z}/{x}/{y}?${version}`], maxzoom: last },
      layer: { "source-layer": "ledger" },
    },
    image: description.images.length === 0 ? null : {
      source: {
        type: "raster", tiles: [`${root}/tiles/images/{z}/{x}/{y}?${version}`], tileSize: 512,
        minzoom: description.image_min_zoom, maxzoom: 22, bounds: flatBounds(description.image_bounds),
      },
    },
    summary: ({ west, south, east, north }, limits, signal) => {
      const query = new URLSearchParams({
        west, south, east, north, min_confidence: limits.confidence, min_area_m2: limits.area,
      });
      return ask(`summary?${query}`, signal);
    },
    building: (row) => ask(`footprint/${row}`),
    find: (id) => ask(`find?${new URLSearchParams({ id })}`),
    ledgerTile: (row) => ask(`ledger/${row}`),
    progress: () => ask("progress"),
  };

  function densityUrls({ confidence, area }) {
    const query = `min_confidence=${confidence}&min_area_m2=${area}&${version}`;
    return [`${root}/tiles/density/{z}/{x}/{y}?${query}`];
  }
}

// Bounds across the antimeridian are no rectangle of the map: then all tiles are asked for.
function flatBounds([west, south, east, north]) {
  return west >= -180 && east <= 180 ? [west, south, east, north] : undefined;
}
