// Search by Plus Code, by coordinates, or by id.

import { parseCoordinates } from "everyroof/coordinates";
import { element } from "everyroof/panel";
import { parsePlusCode } from "everyroof/pluscodes";
import { degrees } from "everyroof/words";

const ID = /^z\d{2}_g\d+mm_r-?\d+_c-?\d+$/;
const ZOOM_BY_DIGITS = { 2: 4, 4: 8, 6: 12, 8: 16, 10: 19 };

// What a text means: {kind: "code", cell}, {kind: "point", lat, lng}, {kind: "id", id}, or null.
export function understand(text, near) {
  const query = text.trim();
  if (ID.test(query)) return { kind: "id", id: query };
  const cell = parsePlusCode(query, near);
  if (cell !== null) return { kind: "code", cell };
  const point = parseCoordinates(query);
  return point === null ? null : { kind: "point", ...point };
}

export const zoomOf = (cell) => ZOOM_BY_DIGITS[cell.digits] ?? 20;

export function startSearch(map, onFound) {
  element("search").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = element("query").value;
    const meaning = understand(text, map.getCenter());
    if (meaning === null) {
      answer(
        text.trim()
          ? "This is neither a Plus Code (6GGJ8H7R+2X), coordinates (27.63, 85.52) nor the id of a building."
          : "Type a Plus Code, coordinates or the id of a building.",
        true,
      );
      return;
    }
    answer("Looking…");
    try {
      await onFound(meaning);
    } catch (error) {
      answer(error.message, true);
    }
  });
}

export function answer(text, isWrong = false) {
  element("answer").textContent = text;
  element("answer").classList.toggle("wrong", isWrong);
}

export const whereWords = (point) => `At ${degrees(point.lat, point.lng)}`;
