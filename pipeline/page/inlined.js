// The data within an exported page: columns of all footprints, unpacked when the page opens.

export async function inlinedData(description) {
  const columns = await unpack("footprints");
  const ledgerTiles = await unpack("ledger");
  const outlines = decodeOutlines(columns, description.coordinate_step_deg);
  const picture = document.getElementById("data-image");
  const rows = columns.lon.map((_, row) => row);
  const steps = description.confidence_steps;

  const record = (row) => ({
    row,
    id: columns.id[row],
    lon: columns.lon[row],
    lat: columns.lat[row],
    area_m2: columns.area_m2[row],
    confidence: columns.confidence[row] / steps,
    plus_code: columns.plus_code[row],
    image: columns.images[columns.image[row]],
    date: columns.dates[columns.date[row]],
    model: columns.models[columns.model[row]],
    outline: { type: "Polygon", coordinates: outlines[row] },
  });

  return {
    footprints: {
      source: { type: "geojson", maxzoom: 18, tolerance: 0.1, data: collection(rows.map((row) => feature(
        row, outlines[row], { c: columns.confidence[row], a: Math.floor(columns.area_m2[row]) },
      ))) },
      layer: {},
      minzoom: 0,
    },
    density: null,
    ledger: ledgerTiles.length === 0 ? null : {
      source: { type: "geojson", data: collection(ledgerTiles.map((tile, row) => feature(row, tile.outline, { s: tile.s }))) },
      layer: {},
    },
    image: picture === null ? null : {
      source: { type: "image", url: dataUrl(picture), coordinates: description.image_corners },
    },
    summary: async (view, limits) => summarise(columns, view, limits, description),
    building: async (row) => record(row),
    find: async (id) => {
      const row = columns.id.indexOf(id);
      return row < 0 ? null : record(row);
    },
    ledgerTile: async (row) => ledgerTiles[row],
    progress: async () => ({ num_ready: rows.length, num_all: rows.length, problem: "" }),
  };
}

const collection = (features) => ({ type: "FeatureCollection", features });

const feature = (id, coordinates, properties) => ({
  type: "Feature", id, properties, geometry: { type: "Polygon", coordinates },
});

function bytesOf(element) {
  return Uint8Array.from(atob(element.textContent.trim()), (letter) => letter.charCodeAt(0));
}

async function unpack(name) {
  const stream = new Blob([bytesOf(document.getElementById(`data-${name}`))]).stream();
  return new Response(stream.pipeThrough(new DecompressionStream("gzip"))).json();
}

// PNG begins with 0x89, JPEG with 0xff, WebP with R.
function dataUrl(element) {
  const type = { 0x89: "png", 0xff: "jpeg", 0x52: "webp" }[bytesOf(element)[0]];
  return `data:image/${type};base64,${element.textContent.trim()}`;
}

// Each point is kept as its steps from the one before.
function decodeOutlines({ num_rings: numRings, num_points: numPoints, x, y }, step) {
  let at = 0, ring = 0, atX = 0, atY = 0;
  return numRings.map((number) => Array.from({ length: number }, () => {
    const points = Array.from({ length: numPoints[ring++] }, () => {
      atX += x[at];
      atY += y[at++];
      return [atX * step, atY * step];
    });
    return points;
  }));
}

function summarise({ lon, lat, confidence, area_m2: area }, view, limits, description) {
  const edges = description.area_edges_m2;
  const least = Math.ceil(limits.confidence * description.confidence_steps);
  const all = new Array(edges.length).fill(0), kept = new Array(edges.length).fill(0);
  let keptArea = 0;
  for (let row = 0; row < lon.length; row++) {
    const east = ((lon[row] - view.west) % 360 + 360) % 360;
    if (east > view.east - view.west || lat[row] < view.south || lat[row] > view.north) continue;
    const size = sizeClass(edges, area[row]);
    all[size]++;
    if (confidence[row] < least || area[row] < limits.area) continue;
    kept[size]++;
    keptArea += area[row];
  }
  const sum = (counts) => counts.reduce((total, number) => total + number, 0);
  return {
    num_all: sum(all), num_kept: sum(kept), area_kept_m2: keptArea,
    sizes_all: all, sizes_kept: kept, is_complete: true,
  };
}

function sizeClass(edges, area) {
  let size = 0;
  while (size + 1 < edges.length && area >= edges[size + 1]) size++;
  return size;
}
