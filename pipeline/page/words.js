// Numbers in words, the same everywhere on the page.

export const count = (number) => number.toLocaleString("en");

export const buildings = (number) => (number === 1 ? "building" : "buildings");

export function area(squareMetres) {
  if (squareMetres < 1e4) return `${count(Math.round(squareMetres))} m²`;
  if (squareMetres < 1e6) return `${count(Math.round(squareMetres / 1e3) / 10)} ha`;
  return `${count(Math.round(squareMetres / 1e4) / 100)} km²`;
}

export const percent = (share) => `${Math.round(share * 100)} %`;

export const degrees = (lat, lon) => `${lat.toFixed(6)}, ${lon.toFixed(6)}`;
