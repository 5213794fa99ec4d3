// The page: choose a model, give it something, see what it says and why. #name or #name/card.

import { answer, problem } from "./answer.js";
import { card } from "./card.js";
import { byId, element } from "./dom.js";
import { explanation } from "./explanation.js";
import { editors } from "./inputs.js";
import { samples } from "./samples.js";
import * as service from "./service.js";
import { snippets } from "./snippets.js";

let models = [];
let running = new AbortController();

async function start() {
  notify("");
  try {
    models = (await service.models()).filter((model) => model.modality in editors);
  } catch (error) {
    return error.refused || notify(`The service does not answer: ${error.message}`);
  }
  if (!models.length) return notify("The model store holds no model for this page.");
  byId("model").replaceChildren(...models.map((model) => element("option", { value: model.name }, model.title || model.name)));
  return route();
}

function askForKey({ detail }) {
  byId("refusal").textContent = service.hasKey() ? detail.message : "";
  byId("key").hidden = false;
  byId("key-value").focus();
}

function takeKey(event) {
  event.preventDefault();
  service.useKey(byId("key-value").value);
  byId("key").reset();
  byId("key").hidden = true;
  start();
}

function notify(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

async function route() {
  const [name, view] = decodeURIComponent(location.hash.slice(1)).split("/");
  const first = models.find((model) => model.required) || models[0];
  const listed = models.find((model) => model.name === name) || first;
  byId("model").value = listed.name;
  byId("tab-try").href = `#${listed.name}`;
  byId("tab-card").href = `#${listed.name}/card`;
  const onCard = view === "card";
  mark(byId("tab-try"), !onCard);
  mark(byId("tab-card"), onCard);
  byId("try").hidden = onCard;
  byId("card").hidden = !onCard;
  const signal = begin();
  const model = await service.card(listed.name);
  if (signal.aborted) return;
  if (onCard) byId("card").replaceChildren(...card(model));
  else tryOut(model);
}

// What the page waited for until now no longer matters: it is about something else.
function begin() {
  running.abort();
  running = new AbortController();
  return running.signal;
}

function mark(link, current) {
  if (current) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

function tryOut(model) {
  byId("title").textContent = model.title || model.name;
  const editor = editors[model.modality]((input) => ask(model, editor, input));
  byId("input").replaceChildren(editor);
  byId("answer").replaceChildren(element("p", { class: "quiet" }, "Nothing asked yet."));
  byId("answer").classList.remove("busy");
  byId("why").hidden = true;
  byId("snippets").replaceChildren(...snippets(model.name, model.modality));
  byId("samples").replaceChildren(...samples(model, (input) => ask(model, editor, input)));
}

async function ask(model, editor, input) {
  const signal = begin();
  editor.show(input);
  byId("answer").classList.add("busy");
  byId("snippets").replaceChildren(...snippets(model.name, model.modality, input));
  try {
    const result = await service.predict(model, input, signal);
    byId("answer").replaceChildren(...answer(result, model.manifest));
    const loaded = model.explanations ? model : await service.card(model.name);
    if (signal.aborted) return;
    offerReasons(loaded, input, result.predictions[0].top);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("answer").replaceChildren(problem(error));
    offerReasons(model, input);
  }
  byId("answer").classList.remove("busy");
}

// Of labels only: `top` is what the network holds most probable.
function offerReasons(model, input, top = []) {
  byId("why").hidden = !top.length;
  byId("explanation").replaceChildren(...explanation(model, input, top.map(({ label }) => label)));
}

byId("model").addEventListener("change", (event) => { location.hash = `#${event.target.value}`; });
byId("key").addEventListener("submit", takeKey);
addEventListener("hashchange", route);
addEventListener("refused", askForKey);
start();
