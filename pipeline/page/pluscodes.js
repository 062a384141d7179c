// Plus Codes (Open Location Codes): https://github.com/google/open-location-code

const DIGITS = "23456789CFGHJMPQRVWX";
const PAIRS = 5;
const GRID_ROWS = 5, GRID_COLS = 4;
const FULL = new RegExp(`^[${DIGITS}]{2,8}0{0,6}\\+[${DIGITS}]*$`);
const SHORT = new RegExp(`^[${DIGITS}]{2,6}\\+[${DIGITS}]*$`);

// The cell of a code as {west, south, east, north, digits}; null if the text is no Plus Code.
// Short codes, such as 7W2X+4Q, are completed by the nearest place to `near` ({lng, lat}).
export function parsePlusCode(text, near) {
  const code = text.trim().toUpperCase().split(/[\s,]/)[0];
  const before = code.indexOf("+");
  if (before < 0 || before % 2 || code.length === before + 2) return null;
  if (before < 8) return SHORT.test(code) ? nearestCell(code, near) : null;
  const digits = code.replace(/0*\+/, "");
  const isPadded = code.includes("0");
  if (before !== 8 || !FULL.test(code) || digits.length > 15) return null;
  if (isPadded && (!code.endsWith("+") || digits.length % 2)) return null;
  return cellOf(digits);
}

// The code of a point, of 2, 4, 6, 8 or 10 digits without the separator.
export function pairDigits(lat, lng, length = 10) {
  let y = Math.floor((Math.min(Math.max(lat, -90), 90 - 1e-9) + 90) * 8000);
  let x = Math.floor((((lng + 180) % 360 + 360) % 360) * 8000);
  let digits = "";
  for (let pair = 0; pair < PAIRS; pair++) {
    digits = DIGITS[y % 20] + DIGITS[x % 20] + digits;
    y = Math.floor(y / 20);
    x = Math.floor(x / 20);
  }
  return digits.slice(0, length);
}

// Steps from cell to cell are whole numbers until the very end, so that edges are exact.
function cellOf(digits) {
  let y = 0, x = 0, rows = 1, cols = 1;
  [...digits.slice(0, 2 * PAIRS)].forEach((digit, place) => {
    if (place % 2 === 0) { y = y * 20 + DIGITS.indexOf(digit); rows *= 20; }
    else { x = x * 20 + DIGITS.indexOf(digit); cols *= 20; }
  });
  for (const digit of digits.slice(2 * PAIRS)) {
    const value = DIGITS.indexOf(digit);
    y = y * GRID_ROWS + Math.floor(value / GRID_COLS);
    x = x * GRID_COLS + (value % GRID_COLS);
    rows *= GRID_ROWS;
    cols *= GRID_COLS;
  }
  const height = 400 / rows, width = 400 / cols;
  const south = y * height - 90, west = x * width - 180;
  if (south >= 90 || west >= 180) return null;
  return { south, west, north: south + height, east: west + width, digits: digits.length };
}

function nearestCell(code, near) {
  const missing = 8 - code.indexOf("+");
  const start = pairDigits(near.lat, near.lng).slice(0, missing);
  const cell = cellOf(start + code.replace("+", ""));
  if (cell === null) return null;
  const step = 400 / 20 ** (missing / 2); // the size of the part that is missing
  const nearer = (low, high, at) => {
    const middle = (low + high) / 2;
    if (middle - at > step / 2) return -step;
    return at - middle > step / 2 ? step : 0;
  };
  const lng = ((near.lng + 180) % 360 + 360) % 360 - 180;
  const up = nearer(cell.south, cell.north, near.lat);
  const right = nearer(cell.west, cell.east, lng);
  const isOff = cell.north + up > 90 || cell.south + up < -90;
  const moved = { ...cell, west: cell.west + right, east: cell.east + right };
  return isOff ? moved : { ...moved, south: cell.south + up, north: cell.north + up };
}
