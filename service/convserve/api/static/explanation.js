// Why the network said so: a heat map over the picture, or weights behind the words.

import { element } from "./dom.js";
import * as service from "./service.js";

const METHODS = {
  occlusion: "occlusion", cam: "class activation map", gradient: "gradient", deconvnet: "deconvnet", guided: "guided backprop",
};

export function explanation(model, input, labels) {
  const place = element("div", { "aria-live": "polite" });
  const label = element("select", { "aria-label": "Label to explain" }, ...labels.map((name) => element("option", {}, name)));
  const known = (model.explanations || ["occlusion"]).filter((value) => value in METHODS); // of a label
  const options = known.map((value) => element("option", { value }, METHODS[value]));
  const method = element("select", { "aria-label": "Method", change: run }, ...options);
  const opacity = element("input", { type: "range", min: 0, max: 100, value: 70, "aria-label": "Opacity of the map" });
  const ask = element("button", { type: "button", click: run }, "What speaks for");
  const controls = element("div", { class: "row" }, ask, element("span", {}, label), element("span", {}, "by"), element("span", {}, method), model.modality === "image" && opacity);
  let shown;
  let asked = 0;

  async function run() {
    const turn = ++asked;
    ask.disabled = true;
    place.replaceChildren(element("p", { class: "quiet" }, "Asking…"));
    try {
      const result = await service.explain(model.name, input, { label: label.value, method: method.value });
      if (turn !== asked) return;
      shown = result.map ? heat(result, input) : words(result, input);
      fade();
      place.replaceChildren(told(result), shown);
    } catch (error) {
      if (turn !== asked) return;
      place.replaceChildren(element("p", { class: "problem" }, error.message));
    }
    ask.disabled = false;
  }

  function fade() {
    const canvas = shown?.querySelector("canvas");
    if (canvas) canvas.style.opacity = opacity.value / 100;
  }

  opacity.addEventListener("input", fade);
  return [controls, place];
}

function told(result) {
  return element("p", { class: "quiet" }, `By ${METHODS[result.method]}, ${result.runs === 1 ? "one run" : `${result.runs} runs`}: marked is what “${result.label}” hangs on.`);
}

// The map covers what the network saw: the middle of the picture, in the map's proportions.
function heat({ map, label }, input) {
  const [height, width] = [map.length, map[0].length];
  const canvas = element("canvas", { width, height, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  const most = Math.max(1e-9, ...map.flat());
  map.flat().forEach((value, i) => {
    const strength = Math.max(0, value) / most;
    pixels.data.set([224, 70 + 100 * (1 - strength), 10, 230 * strength], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  const url = URL.createObjectURL(input.data);
  const picture = element("img", { src: url, alt: `The picture; marked is what speaks for ${label}` });
  picture.addEventListener("load", () => URL.revokeObjectURL(url));
  picture.style.aspectRatio = `${width} / ${height}`;
  return element("div", { class: "overlay" }, picture, canvas);
}

// Places in the text are counted in code points, JavaScript counts UTF-16 units.
function words({ spans }, input) {
  const text = [...input.data];
  const most = Math.max(1e-9, ...spans.map((span) => Math.abs(span.weight)));
  const parts = [];
  let at = 0;
  for (const { start, end, weight } of spans) {
    const mark = element("mark", { title: weight.toFixed(3) }, text.slice(start, end).join(""));
    const strength = Math.round((60 * Math.abs(weight)) / most);
    mark.style.backgroundColor = `rgb(${weight > 0 ? "20 143 143" : "224 90 31"} / ${strength}%)`;
    parts.push(text.slice(at, start).join(""), mark);
    at = end;
  }
  return element("p", { class: "spans-text" }, ...parts, text.slice(at).join(""));
}
