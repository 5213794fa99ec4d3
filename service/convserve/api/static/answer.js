// What the network said, how sure it is, and where the time went.

import { element, percent, shape, table } from "./dom.js";

const SPANS = [["decode", "decode"], ["queue", "queue"], ["inference", "inference"], ["post", "postprocess"]];

export function answer(result, { postprocess }) {
  const [prediction] = result.predictions;
  return [...said(prediction, postprocess.conformal), timing(result)];
}

export function problem(error) {
  const more = error.type ? element("a", { href: new URL(error.type, document.baseURI).href }, "What is this?") : null;
  return element("div", { class: "problem" }, element("strong", {}, error.title || "It did not work"),
    element("p", {}, error.message, " ", more));
}

function said(prediction, conformal) {
  return prediction.label === undefined ? transcript(prediction) : classification(prediction, conformal);
}

function classification(prediction, conformal) {
  const { set = [], in_distribution: usual } = prediction;
  return [
    element("p", { class: "verdict" }, prediction.label),
    prediction.set && usual !== false && element("p", { class: "set" }, element("strong", {}, `${list(set) || "no label"}, ${percent(conformal.coverage, 0)}`),
      `: ${Math.round(100 * conformal.coverage)} of 100 sets like this hold the truth.`),
    ...origin(usual),
    bars(prediction.top, set),
  ].filter(Boolean);
}

function origin(usual) {
  if (usual === undefined) return [];
  if (usual) return [element("p", { class: "quiet" }, "It looks like what the model was trained on.")];
  return [element("p", { class: "warning" }, "This looks unlike anything the model was trained on: do not rely on its answer.")];
}

function bars(top, set) {
  return element("dl", { class: "bars" }, ...top.flatMap(({ label, probability }) => [
    element("dt", set.includes(label) ? { class: "member" } : {}, label),
    element("dd", {}, shape("svg", { class: "bar", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" },
      shape("rect", { width: probability, height: 1 }))),
    element("dd", {}, percent(probability)),
  ]));
}

function transcript({ transcript: text, characters, alternatives = [] }) {
  const others = alternatives.map(({ transcript: label, score }) => ({ label: label || "(silence)", probability: Math.exp(score) }));
  return [
    element("p", { class: "verdict" }, text || "(silence)"),
    characters.length && table(["word", "from", "to", "least sure letter"], words(characters).map(row), [1, 2]),
    others.length > 1 && bars(others, [text]),
  ].filter(Boolean);
}

// Characters with times → those of each word.
function words(characters) {
  const found = [[]];
  for (const one of characters) {
    if (one.character === " ") found.push([]);
    else found.at(-1).push(one);
  }
  return found.filter((word) => word.length);
}

function row(word) {
  const least = word.reduce((one, other) => (other.probability < one.probability ? other : one));
  const letters = word.map(({ character, start, probability }) =>
    element("span", { title: `${seconds(start)}, ${percent(probability)}` }, character));
  return [element("span", {}, ...letters), seconds(word[0].start), seconds(word.at(-1).end),
    `${least.character} ${percent(least.probability)}`];
}

const seconds = (time) => `${time.toFixed(2)} s`;

export const list = (words) =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;

function timing(result) {
  const parts = SPANS.map(([key, name]) => [name, result.spans[key] || 0]);
  const total = result.spans.total || parts.reduce((sum, [, ms]) => sum + ms, 0);
  parts.push(["rest", Math.max(0, total - parts.reduce((sum, [, ms]) => sum + ms, 0))]);
  let from = 0;
  const bar = shape("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", class: "spans", role: "img",
    "aria-label": `${total.toFixed(1)} ms on the server` });
  parts.forEach(([, ms], i) => {
    const width = total ? (1000 * ms) / total : 0;
    bar.append(shape("rect", { x: from, width, height: 10, class: `c${i}` }));
    from += width;
  });
  const legend = parts.map(([name, ms], i) => element("li", {},
    shape("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, shape("rect", { width: 10, height: 10, class: `c${i}` })),
    `${name} ${ms.toFixed(1)} ms`));
  return element("div", {}, element("h3", {},
    `${total.toFixed(1)} ms on the server, ${(1000 * result.seconds).toFixed(0)} ms from here`),
    bar, element("ul", { class: "legend" }, ...legend));
}
