"use strict";

// Colours and text of tokens. Text from outside becomes text nodes, never markup.

// Colours of full strength; black text stays readable on each of them, and blue against orange is told apart by
// colour-blind readers too.
const POSITIVE = [74, 148, 219], NEGATIVE = [240, 138, 36], RELEVANT = [159, 120, 214];

// Blends from white: 0 is white, 1 (or more) the full colour.
function blend(colour, strength) {
  const share = Math.min(1, Math.max(0, strength));
  return `rgb(${colour.map((full) => Math.round(255 + (full - 255) * share)).join(" ")})`;
}

// A quantity with a sign is centred at zero: `scale` is what has the full colour.
function colourOf(value, scale, signed) {
  if (!signed) return blend(RELEVANT, value / scale);
  return blend(value < 0 ? NEGATIVE : POSITIVE, Math.abs(value) / scale);
}

// Control and direction characters could hide or reorder what stands around them: they are shown by number.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

function visible(text) {
  return text.replace(HIDDEN, (found) => `⟨U+${found.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Where each of the sorted, disjoint spans of `labels` cuts [start, end): pieces of start, end, marked.
function pieces(start, end, labels) {
  const found = [];
  let place = start;
  for (const [from, to] of labels) {
    if (to <= place) continue;
    if (from >= end) break;
    if (from > place) found.push([place, from, false]);
    found.push([Math.max(place, from), Math.min(to, end), true]);
    place = Math.min(to, end);
  }
  if (place < end) found.push([place, end, false]);
  return found;
}

// Spans that overlap or touch made one.
function merged(spans) {
  const result = [];
  for (const [start, end] of [...spans].sort((a, b) => a[0] - b[0])) {
    const last = result[result.length - 1];
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else result.push([start, end]);
  }
  return result;
}

// A response with each token in the colour of its number. `colour` maps a token's place to a colour or null; `labels`
// are underlined.
function drawTokens(response, colour, labels) {
  const box = element("p", { class: "response", dir: "auto" });
  let start = 0;
  response.ends.forEach((end, token) => {
    for (const [from, to, marked] of pieces(start, end, labels)) {
      const text = response.text.slice(from, to);
      const shown = element("span", { "data-token": token, class: marked ? "token marked" : "token" });
      text.split("\n").forEach((line, place) => {
        if (place) shown.append(element("span", { class: "line-end" }), "\n");
        shown.append(visible(line));
      });
      const found = colour(token);
      if (found) shown.style.backgroundColor = found;
      box.append(shown);
    }
    start = Math.max(start, end);
  });
  if (start < response.text.length) box.append(visible(response.text.slice(start)));
  if (!response.text) box.append(element("em", {}, "an empty answer"));
  return box;
}
