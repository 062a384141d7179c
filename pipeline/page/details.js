// What is known of the building, the cell or the tile that was picked.

import { announce, element } from "everyroof/panel";
import { area, buildings, count, degrees, percent } from "everyroof/words";

export function showBuilding(building) {
  showFields("Building", [
    ["Plus Code", code(building.plus_code), copyButton(building.plus_code)],
    ["Area", `${building.area_m2.toFixed(1)} m²`],
    ["Confidence", percent(building.confidence)],
    ["Image date", building.date ?? "not known"],
    ["Image", building.image],
    ["Model", building.model],
    ["Centre", degrees(building.lat, building.lon)],
    ["Id", code(building.id), copyButton(building.id, "Copy the id")],
  ]);
  announce(`Building ${building.plus_code}: ${area(building.area_m2)}, confidence ${percent(building.confidence)}`);
}

export function showCell({ n, c }, description) {
  const confidence = percent(c / description.confidence_steps);
  showFields("Square of the map", [
    ["Buildings", count(n)],
    ["Mean confidence", confidence],
    ["", "Zoom in to see each of them."],
  ]);
  announce(`${count(n)} ${buildings(n)} in this square, mean confidence ${confidence}`);
}

export function showTile(tile, description) {
  const words = description.statuses.find((status) => status.name === tile.status)?.words ?? tile.status;
  const leftOut = tile.num_windows_left_out;
  showFields("Ground worked on", [
    ["Result", words],
    ...(tile.reason ? [["Reason", tile.reason]] : []),
    ["Found", `${count(tile.num_instances)} ${buildings(tile.num_instances)} before seams were joined`],
    ...(leftOut ? [["First look", `${count(leftOut)} ${leftOut === 1 ? "window" : "windows"} left out as empty`]] : []),
    ["Tile", code(tile.tile)],
  ]);
  announce(`Tile ${words}. ${tile.reason}`);
}

export function hideDetails() {
  element("building").hidden = true;
}

function showFields(title, fields) {
  element("building-title").textContent = title;
  const list = document.createElement("dl");
  for (const [name, ...values] of fields) {
    const term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.append(...values);
    list.append(term, value);
  }
  element("fields").replaceChildren(list);
  element("building").hidden = false;
  element("building").scrollIntoView({ block: "nearest" });
}

function code(text) {
  const node = document.createElement("code");
  node.textContent = text;
  return node;
}

function copyButton(text, label = "Copy the Plus Code") {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  button.textContent = "Copy";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", async () => {
    const isCopied = await copy(text);
    button.textContent = isCopied ? "Copied" : "Not allowed";
    announce(isCopied ? `Copied ${text}` : "The browser does not allow copying here");
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyFromField(text);
  }
}

// Where the clipboard is out of reach, such as over plain http from another machine.
function copyFromField(text) {
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  return isCopied;
}
