// Coordinates as people write them; the answer is {lat, lng} in degrees, or null.
//
//   27.63, 85.52      27.63 85.52      27,63; 85,52      geo:27.63,85.52      @27.63,85.52,17z
//   27.63N 85.52E     E 85.52 N 27.63      27°37'48"N 85°31'12"E      27 37 48 N, 85 31 12 E

const NUMBER = "[+-]?\\d+(?:\\.\\d+)?";
const PLAIN = new RegExp(`^(${NUMBER})[\\s,;/]+(${NUMBER})(?:[,;?].*)?$`);
const PART = new RegExp(
  `^(${NUMBER})(?:[\\s°dº]+(\\d+(?:\\.\\d+)?))?(?:[\\s'’′m]+(\\d+(?:\\.\\d+)?))?[\\s°dº'’′m"”″s]*$`, "i",
);

export function parseCoordinates(text) {
  let cleaned = text.trim().replace(/^geo:/i, "").replace(/^@/, "").replace(/−/g, "-");
  if (/^[+-]?\d+,\d+\s*[;\s]\s*[+-]?\d+,\d+$/.test(cleaned)) {
    cleaned = cleaned.replace(/,/g, ".").replace(/\s*;\s*/, " "); // decimal commas
  }
  const plain = PLAIN.exec(cleaned);
  if (plain) return checked(Number(plain[1]), Number(plain[2]));
  const letters = [...cleaned.toUpperCase().matchAll(/[NSEW]/g)].map((match) => match.index);
  if (letters.length !== 2) return null;
  return checked(...withLetters(cleaned.toUpperCase(), letters));
}

function withLetters(text, [first, second]) {
  const isBefore = first === 0; // N 27.63 E 85.52; else the letters follow the numbers
  const halves = isBefore
    ? [text.slice(1, second), text.slice(second + 1)]
    : [text.slice(0, first), text.slice(first + 1, second)];
  if (!isBefore && text.slice(second + 1).trim()) return [NaN, NaN];
  const values = halves.map((half, place) => {
    const sign = "SW".includes(text[place ? second : first]) ? -1 : 1;
    return sign * fromParts(half.replace(/^[\s,;]+|[\s,;]+$/g, ""));
  });
  const isLatitude = [first, second].map((at) => "NS".includes(text[at]));
  if (isLatitude[0] === isLatitude[1]) return [NaN, NaN];
  return isLatitude[0] ? values : values.reverse();
}

function fromParts(text) {
  const parts = PART.exec(text);
  if (!parts) return NaN;
  const [whole, minutes, seconds] = parts.slice(1).map((part) => Number(part ?? 0));
  if (whole < 0 || minutes >= 60 || seconds >= 60) return NaN;
  return whole + minutes / 60 + seconds / 3600;
}

function checked(lat, lng) {
  return Math.abs(lat) <= 90 && Math.abs(lng) <= 360 ? { lat, lng } : null;
}
