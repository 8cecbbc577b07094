"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const groups = data.groups;
const NAMES = {
  relevance: "relevance", response_level: "response-level advantage", token_level: "token-level advantage",
  combined: "combined advantage",
};
const controls = document.getElementById("controls");
const list = document.getElementById("groups");
const main = document.getElementById("group");
const tip = document.getElementById("tip");
const ALL = -1;

// What is shown: places of the groups that match, the group among them, and the rubric chosen in it.
const state = { matching: [], current: 0, rubric: ALL };

const chosen = (name) => controls.elements[name].value;
const number = (value, digits = 3) => (value / data.fine).toFixed(digits).replace("-", "−");
const runOf = (group) => (group.seed === "" ? group.arm : `${group.arm} seed ${group.seed}`);
const told = (verdict) => (verdict === null || verdict === undefined ? "missing" : verdict > 0 ? "kept" : "broken");

function fill(name, values, any) {
  const select = controls.elements[name];
  select.append(element("option", { value: "" }, any));
  for (const value of values) select.append(element("option", { value }, visible(String(value))));
  select.closest("label").hidden = values.length < 2;
}

const distinct = (values) => [...new Set(values)].filter((value) => value !== "");

// The responses of a group that match the verdict asked for, on the kind asked for.
function matching(group) {
  const [kind, verdict] = [chosen("kind"), chosen("verdict")];
  const places = group.rubrics.flatMap((rubric, place) => (!kind || rubric.kind === kind ? [place] : []));
  if (!places.length) return [];
  return group.responses.filter(
    (response) => !verdict || places.some((place) => told(response.verdicts[place]) === verdict));
}

function filter() {
  const before = state.matching[state.current];
  state.matching = groups.flatMap((group, place) => {
    if (chosen("run") && runOf(group) !== chosen("run")) return [];
    if (chosen("round") && group.round !== chosen("round")) return [];
    return matching(group).length ? [place] : [];
  });
  list.replaceChildren(...state.matching.map(entry));
  document.getElementById("count").textContent =
    `${state.matching.length} of ${groups.length} groups` + (state.matching.length ? "" : ": nothing matches");
  show(Math.max(0, state.matching.indexOf(before)));
}

function entry(place, position) {
  const group = groups[place];
  const rewards = group.responses.map((response) => response.reward).filter((reward) => reward !== null);
  const mean = rewards.length ? (rewards.reduce((a, b) => a + b, 0) / rewards.length).toFixed(2) : "none";
  const button = element("button", { type: "button", "data-position": position },
    element("b", {}, `${group.round ? `round ${group.round}, ` : ""}step ${group.step}, mean reward ${mean}`),
    element("span", {}, visible(group.prompt.slice(0, 120))));
  return element("li", {}, button);
}

function show(position) {
  state.current = position;
  const group = groups[state.matching[position]];
  const kind = chosen("kind");
  const first = group && kind ? group.rubrics.findIndex((rubric) => rubric.kind === kind) : ALL;
  state.rubric = first;
  for (const button of list.querySelectorAll("[aria-current]")) button.removeAttribute("aria-current");
  const button = list.children[position]?.firstChild;
  if (button) {
    button.setAttribute("aria-current", "true");
    button.scrollIntoView({ block: "nearest" });
  }
  main.scrollTop = 0;
  draw();
}

function draw() {
  tip.hidden = true;
  drawLegend();
  const group = groups[state.matching[state.current]];
  if (!group) return main.replaceChildren(element("p", {}, "No group of responses matches what is asked for."));
  const answers = matching(group);
  const missing = group.responses.length - answers.length;
  const heading = `${runOf(group)}${group.round ? `, round ${group.round}` : ""}, step ${group.step}`;
  main.replaceChildren(
    element("h2", {}, visible(heading)),
    ...group.before.map(([role, text]) => element("p", { class: "prompt" }, visible(`${role}: ${text}`))),
    element("p", { class: "prompt", dir: "auto" }, visible(group.prompt)),
    rubricChoice(group),
    element("p", { class: "note" },
      `${answers.length} responses${missing ? `; ${missing} that do not match are hidden` : ""}. ` +
      "Underlined: what the rule labels say."),
    element("div", { class: "side-by-side", role: "region", "aria-label": "Responses", tabindex: "0" },
      ...answers.map((response) => article(group, response))));
}

function rubricChoice(group) {
  const row = (place, ...text) => element("label", {},
    element("input", { type: "radio", name: "rubric", value: place, checked: place === state.rubric }), ...text);
  return element("fieldset", { class: "rubrics" }, element("legend", {}, "Rubric"),
    row(ALL, " all: the largest relevance"),
    ...group.rubrics.map((rubric, place) =>
      row(place, ` ${place + 1}. ${visible(rubric.text)} `, element("small", {}, visible(rubric.kind)))));
}

function article(group, response) {
  const labels = response.labels.filter((_, place) => state.rubric === ALL || place === state.rubric);
  const box = drawTokens(response, (token) => tokenColour(response, token), merged(labels.flatMap((spans) => spans ?? [])));
  box.addEventListener("mouseover", (event) => point(event, group, response));
  box.addEventListener("click", (event) => point(event, group, response));
  box.addEventListener("mouseleave", () => { tip.hidden = true; });
  const verdicts = response.verdicts.map((verdict, place) =>
    element("li", { class: `verdict ${told(verdict)}` }, `${place + 1} ${told(verdict)}`));
  const reward = response.reward === null ? "no reward" : `reward ${response.reward}`;
  return element("article", { "aria-label": "Response" },
    element("header", {}, `${reward}, advantage ${number(response.response_level, 2)}`, element("ul", {}, ...verdicts)),
    box);
}

// The number of a token that is coloured by; null where the run has none.
function valueOf(response, token, quantity) {
  if (quantity === "response_level") return response.response_level;
  if (quantity !== "relevance") return response[quantity][token];
  if (response.relevance === null) return null;
  return state.rubric === ALL
    ? Math.max(...response.relevance.map((row) => row[token]))
    : response.relevance[state.rubric][token];
}

function tokenColour(response, token) {
  const quantity = chosen("quantity");
  const value = valueOf(response, token, quantity);
  if (value === null || value === 0) return null;
  return quantity === "relevance" ? colourOf(value, data.fine, false) : colourOf(value, data.scales[quantity], true);
}

function drawLegend() {
  const quantity = chosen("quantity");
  const legend = document.getElementById("legend");
  const ramp = element("span", { class: "ramp", role: "img", "aria-label": `scale of ${NAMES[quantity]}` });
  const signed = quantity !== "relevance";
  const ends = signed ? data.scales[quantity] : data.fine;
  const low = signed ? colourOf(-1, 1, true) : colourOf(0, 1, false);
  ramp.style.background = `linear-gradient(to right, ${low}, ${signed ? "white, " : ""}${colourOf(1, 1, signed)})`;
  const none = !signed && groups.length && groups.every((group) => group.responses.every((r) => r.relevance === null));
  const said = [NAMES[quantity] + ":", signed ? `−${number(ends, 2)} or less` : "0", ramp,
    signed ? `${number(ends, 2)} or more` : "1", none ? "(these runs ask for no relevance)" : ""];
  legend.replaceChildren(...said.map((part) => element("span", {}, part)));
}

function point(event, group, response) {
  const token = event.target.closest?.(".token");
  if (!token) return;
  const place = Number(token.dataset.token);
  const rows = group.rubrics.map((rubric, k) =>
    [`relevance to ${k + 1}`, response.relevance === null ? "none" : number(response.relevance[k][place])]);
  rows.push(["response-level", number(response.response_level)], ["token-level", number(response.token_level[place])],
    ["combined", number(response.combined[place])]);
  tip.replaceChildren(element("dl", {},
    ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
  tip.hidden = false;
  const box = token.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
  const below = box.bottom + 6;
  tip.style.top = `${below + tip.offsetHeight > innerHeight ? Math.max(4, box.top - tip.offsetHeight - 6) : below}px`;
}

function choose(place) {
  const radio = main.querySelector(`input[name=rubric][value="${place}"]`);
  if (!radio) return;
  state.rubric = place;
  draw();
}

list.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) show(Number(button.dataset.position));
});
main.addEventListener("change", (event) => {
  if (event.target.name !== "rubric") return;
  choose(Number(event.target.value));
  main.querySelector("input[name=rubric]:checked").focus();
});
controls.addEventListener("change", (event) => (event.target.name === "quantity" ? draw() : filter()));
controls.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // Arrows and letters belong to what is typed or chosen in.
  if (event.target.matches("select, input, textarea")) return;
  const move = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
  if (move) {
    event.preventDefault();
    const next = state.current + move;
    if (next >= 0 && next < state.matching.length) show(next);
  } else if (/^[0-9]$/.test(event.key)) {
    choose(Number(event.key) - 1);
  } else if (event.key === "c") {
    const radios = [...controls.elements.quantity];
    radios[(radios.findIndex((radio) => radio.checked) + 1) % radios.length].checked = true;
    draw();
  } else if (event.key === "Escape") tip.hidden = true;
});

fill("run", distinct(groups.map(runOf)), "all");
fill("round", distinct(groups.map((group) => group.round)).sort((a, b) => a - b), "all");
fill("kind", distinct(groups.flatMap((group) => group.rubrics.map((rubric) => rubric.kind))).sort(), "any");
filter();
document.documentElement.dataset.ready = "true";
