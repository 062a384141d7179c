// The divider: left of it a second map shows the image alone, in step with the first.

import { addImage, makeMap } from "everyroof/map";
import { element } from "everyroof/panel";

const STEP = 2, LEAP = 10;

export function makeSwipe(map, data, description) {
  const divider = element("divider"), stage = element("stage"), pane = element("image-map");
  let share = 50, under = null;

  const follow = () => under?.jumpTo({ center: map.getCenter(), zoom: map.getZoom() });

  function moveTo(percentage) {
    share = Math.min(100, Math.max(0, percentage));
    stage.style.setProperty("--split", `${share}%`);
    divider.setAttribute("aria-valuenow", Math.round(share));
    divider.setAttribute("aria-valuetext", `image alone on ${Math.round(share)} percent of the map`);
  }

  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    event.preventDefault();
    divider.focus({ focusVisible: false });
  });
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = stage.getBoundingClientRect();
    moveTo(((event.clientX - box.left) / box.width) * 100);
  });
  divider.addEventListener("keydown", (event) => {
    const moves = {
      ArrowLeft: share - STEP, ArrowDown: share - STEP, ArrowRight: share + STEP, ArrowUp: share + STEP,
      PageDown: share - LEAP, PageUp: share + LEAP, Home: 0, End: 100,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    moveTo(moves[event.key]);
  });

  return {
    isOn: () => !divider.hidden,
    map: () => under,
    // Whether a point of the map (pixels from its left) lies where footprints are hidden.
    hides: (x) => !divider.hidden && x < (share / 100) * stage.clientWidth,
    set(isOn) {
      divider.hidden = !isOn;
      pane.hidden = !isOn;
      if (isOn && under === null) {
        under = makeMap(pane, description, { isAlone: true });
        under.on("load", () => addImage(under, data));
        map.on("move", follow);
        map.on("resize", () => under.resize());
      }
      if (isOn) under.resize();
      follow();
      moveTo(share);
    },
  };
}
