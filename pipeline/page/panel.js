// The panel's sliders, counts, legend and histogram.

import { RAMP } from "everyroof/map";
import { area, buildings, count, percent } from "everyroof/words";

const AREAS_M2 = [0, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 125, 150, 200, 250, 300, 400, 500, 750, 1000, 1500, 2000, 5000, 10000];
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300, HEIGHT = 96, FLOOR = 80;
const SPEAK_AFTER_MS = 700;

export const element = (id) => document.getElementById(id);

// Says something to screen readers; the last of a burst, once it is quiet.
export function announce(text) {
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => { element("announcer").textContent = text; }, SPEAK_AFTER_MS);
}

export function readLimits() {
  return { confidence: Number(element("confidence").value) / 100, area: AREAS_M2[Number(element("area").value)] };
}

export function startLimits(onChange) {
  element("area").max = AREAS_M2.length - 1;
  const changed = () => {
    const limits = readLimits();
    describeLimit("confidence", percent(limits.confidence));
    describeLimit("area", area(limits.area));
    onChange(limits);
  };
  for (const id of ["confidence", "area"]) element(id).addEventListener("input", changed);
  changed();
}

function describeLimit(id, words) {
  element(`${id}-value`).textContent = words;
  element(id).setAttribute("aria-valuetext", `at least ${words}`);
}

export function drawLegend() {
  const stops = RAMP.map(([share, ink]) => `${ink} ${share * 100}%`).join(", ");
  element("legend").style.setProperty("--ramp", `linear-gradient(to right, ${stops})`);
}

export function showFacts(description) {
  const parts = [`${count(description.num_footprints)} footprints`, `pixels of ${description.gsd_m} m`, description.model];
  element("facts").textContent = parts.join(" · ");
}

export function showSummary(summary, limits, description) {
  const isLimited = limits.confidence > 0 || limits.area > 0;
  const kept = count(summary.num_kept);
  element("count").textContent = kept;
  element("count-words").textContent = `${buildings(summary.num_kept)} in view`;
  const of = isLimited ? `of ${count(summary.num_all)} without limits · ` : "";
  element("count-detail").textContent = `${of}${area(summary.area_kept_m2)} built`;
  const spoken = isLimited ? `${kept} of ${count(summary.num_all)}` : kept;
  if (summary.is_complete) announce(`${spoken} ${buildings(summary.num_kept)} in view, ${area(summary.area_kept_m2)} built`);
  drawSizes(summary, description.area_edges_m2);
}

export function showProgress({ num_ready: ready, num_all: all, problem }) {
  const bar = element("progress");
  bar.hidden = ready >= all || problem !== "";
  bar.max = Math.max(all, 1);
  bar.value = ready;
  if (problem) note(`Counts are not complete: ${problem}`);
}

// A sentence under "To know", once.
export function note(text, isFine = false) {
  const list = element("notes").querySelector("ul");
  if ([...list.children].some((item) => item.textContent === text)) return;
  const item = document.createElement("li");
  item.textContent = text;
  item.classList.toggle("ok", isFine);
  list.append(item);
  element("notes").hidden = false;
}

function drawSizes({ sizes_all: all, sizes_kept: kept, num_kept: numKept }, edges) {
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
  const most = Math.max(1, ...all), step = WIDTH / all.length;
  for (const [counts, name] of [[all, "all"], [kept, "kept"]]) {
    counts.forEach((number, place) => {
      if (number === 0) return;
      const height = Math.max(1, (number / most) * (FLOOR - 4));
      svg.append(draw("rect", { class: name, x: place * step + 0.5, y: FLOOR - height, width: step - 1, height }));
    });
  }
  svg.append(draw("line", { class: "axis", x1: 0, x2: WIDTH, y1: FLOOR, y2: FLOOR }));
  for (const edge of [10, 40, 160, 640, 2560, 10240]) {
    const x = (1 + 2 * Math.log2(edge / 5)) * step;
    const label = draw("text", { x, y: HEIGHT - 3 });
    label.textContent = edge === 10 ? "10 m²" : count(edge);
    svg.append(draw("line", { class: "axis", x1: x, x2: x, y1: FLOOR, y2: FLOOR + 3 }), label);
  }
  element("sizes").replaceChildren(svg);
  const words = sizeWords(kept, numKept, edges);
  element("sizes-words").textContent = words;
  element("sizes").setAttribute("aria-label", `Histogram of sizes in view. ${words}`);
}

function draw(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function sizeWords(counts, total, edges) {
  if (total === 0) return "No building within the limits.";
  const at = (share) => {
    let before = 0;
    for (let place = 0; place < counts.length; place++) {
      const low = edges[place], high = edges[place + 1] ?? low * Math.SQRT2;
      if (before + counts[place] >= share * total) {
        return Math.round(low + (high - low) * ((share * total - before) / counts[place]));
      }
      before += counts[place];
    }
    return edges.at(-1);
  };
  return `Half are below about ${count(at(0.5))} m², most from ${count(at(0.05))} to ${count(at(0.95))} m²`;
}
