"use strict";

const { kinds } = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("question");
const rows = form.querySelector("#rubrics ol");
const status_ = document.getElementById("status");
const answers = document.getElementById("answers");
const ALL = -1;
let shown = null;
let chosen = ALL;

function addRubric(kind) {
  const place = rows.children.length + 1;
  const text = element("input", { class: "text", required: true, maxlength: 2000, "aria-label": `Rubric ${place}` });
  const select = element("select", { "aria-label": `Check of rubric ${place}` },
    element("option", { value: "judge" }, "by a language model"),
    ...kinds.map((one) => element("option", { value: one.kind }, one.kind)));
  const given = element("input", { class: "arguments", "aria-label": `Arguments of the check of rubric ${place}`, value: "{}" });
  const remove = element("button", { type: "button", "aria-label": `Remove rubric ${place}` }, "Remove");
  const row = element("li", {}, element("div", {}, text, select, given, remove));
  const follow = () => {
    const one = kinds.find((known) => known.kind === select.value);
    given.hidden = !one;
    if (!one) return;
    text.value = one.text;
    given.value = JSON.stringify(one.kwargs);
  };
  select.addEventListener("change", follow);
  remove.addEventListener("click", () => {
    row.remove();
    document.getElementById("add").focus();
  });
  rows.append(row);
  if (kind) select.value = kind;
  follow();
}

function question() {
  const rubrics = [...rows.children].map((row, place) => {
    const [text, select, given] = row.querySelectorAll("input.text, select, input.arguments");
    if (select.value === "judge") return { text: text.value };
    try {
      return { text: text.value, kind: select.value, kwargs: JSON.parse(given.value || "{}") };
    } catch {
      throw new Error(`the arguments of rubric ${place + 1} are no JSON`);
    }
  });
  return {
    prompt: document.getElementById("prompt").value, rubrics,
    max_tokens: Number(document.getElementById("tokens").value),
  };
}

function say(text, failed = false) {
  status_.textContent = visible(text);
  status_.className = failed ? "error" : "note";
}

async function ask() {
  const button = document.getElementById("ask");
  button.disabled = true;
  say("Base and trained policy are answering …");
  try {
    const reply = await fetch("/answer", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question()),
    });
    const found = await reply.json();
    if (!reply.ok) throw new Error(found.error);
    shown = found;
    chosen = ALL;
    draw();
    say("Greedy answers. Coloured: relevance to the rubric, says the discriminator; underlined: the rule labels.");
  } catch (error) {
    say(error.message, true);
  } finally {
    button.disabled = false;
  }
}

function draw() {
  const rubrics = shown.answers[0].verdicts.map((_, place) => rows.children[place]?.querySelector(".text").value ?? "");
  const select = element("select", { id: "rubric" }, element("option", { value: ALL }, "all: the largest"),
    ...rubrics.map((text, place) => element("option", { value: place, selected: place === chosen }, `${place + 1}. ${visible(text)}`)));
  select.addEventListener("change", () => {
    chosen = Number(select.value);
    draw();
    document.getElementById("rubric").focus();
  });
  answers.replaceChildren(
    ...(rubrics.length ? [element("p", { class: "choice" }, element("label", {}, "Colour by relevance to ", select))] : []),
    ...shown.answers.map(article));
}

function article(answer) {
  const value = (token) => chosen === ALL
    ? Math.max(...answer.relevance.map((row) => row[token]))
    : answer.relevance[chosen][token];
  const colour = (token) => {
    const found = answer.relevance?.length ? value(token) : 0;
    return found ? colourOf(found, shown.fine, false) : null;
  };
  const labels = merged(answer.labels.filter((_, place) => chosen === ALL || place === chosen).flat());
  const told = (verdict) => (verdict.value === null ? "missing" : verdict.value > 0 ? "kept" : "broken");
  const box = drawTokens(answer, colour, labels);
  for (const token of box.querySelectorAll(".token")) {
    if (answer.relevance?.length) token.title = (value(Number(token.dataset.token)) / shown.fine).toFixed(3);
  }
  return element("article", {},
    element("h2", {}, answer.name + (answer.truncated ? " (cut short)" : "")),
    element("ul", {}, ...answer.verdicts.map((verdict, place) =>
      element("li", {}, element("span", { class: `verdict ${told(verdict)}` }, `${place + 1} ${told(verdict)}`),
        verdict.reason ? visible(`: ${verdict.reason}`) : ""))),
    box);
}

document.getElementById("add").addEventListener("click", () => addRubric());
form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
addRubric("punctuation:no_comma");
addRubric("startend:end_checker");
document.documentElement.dataset.ready = "true";
