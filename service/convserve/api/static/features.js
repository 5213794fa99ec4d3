// What each convolution answers to a picture: its feature maps, white where they are strong.

import { element } from "./dom.js";
import { fileButton } from "./inputs.js";
import { samples } from "./samples.js";
import { explain } from "./service.js";

const SHOWN = 64; // of a layer, as the service sends them

export function featureMaps(model) {
  const place = element("div", { "aria-live": "polite" }, quiet("Choose a picture."));
  const take = (blob, name) => ask({ data: blob, type: blob.type || "image/png", name });
  let asked = 0;

  async function ask(input) {
    const turn = ++asked;
    place.replaceChildren(quiet("Asking…"));
    try {
      const { layers } = await explain(model.name, input, { method: "maps" });
      if (turn === asked) place.replaceChildren(...shown(layers, model.manifest.pyramid));
    } catch (error) {
      if (turn === asked) place.replaceChildren(element("p", { class: "problem" }, error.message));
    }
  }

  return element("div", {}, element("ul", { class: "samples" }, ...samples(model, ask)),
    element("div", { class: "row" }, fileButton("Choose a picture", "image/*", take)), place);
}

const quiet = (text) => element("p", { class: "quiet" }, text);

function shown(layers, pyramid = []) {
  const rows = pyramid.filter((row) => row.kind === "convolution");
  return layers.map(({ shape: [channels, height, width], picture }, i) => {
    const row = rows.length === layers.length ? ` ${rows[i].kernel.join("×")}, sees ${rows[i].receptive_field.join("×")}` : "";
    const count = channels > SHOWN ? `${SHOWN} of ${channels} maps` : `${channels} maps`;
    const title = `Convolution ${i + 1}${row}: ${count} of ${height}×${width}`;
    const url = URL.createObjectURL(decoded(picture));
    const image = element("img", { src: url, alt: title, class: "maps pixelated" });
    image.addEventListener("load", () => URL.revokeObjectURL(url));
    return element("figure", {}, element("figcaption", { class: "quiet" }, title), image);
  });
}

// A data URL → its bytes: the page's policy shows pictures of the service only.
function decoded(url) {
  const [head, data] = url.split(",");
  return new Blob([Uint8Array.from(atob(data), (character) => character.charCodeAt(0))], { type: head.slice(5).split(";")[0] });
}
