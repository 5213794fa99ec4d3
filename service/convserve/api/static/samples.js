// The inputs that an artifact carries, each a click away.

import { element } from "./dom.js";
import { sample } from "./service.js";

// Returns list items; `give` is called with the input of the one that was chosen.
export function samples(model, give) {
  return model.manifest.goldens.map(({ input, media_type: type }) => {
    const file = input.split("/").at(-1);
    const fetched = () => sample(model.name, model.version, input);
    const button = element("button", { type: "button", title: file, click: async () => {
      const blob = await fetched();
      give({ data: model.modality === "text" ? await blob.text() : new Blob([blob], { type }), type, name: file, file });
    } });
    button.append(model.modality === "image" ? thumbnail(fetched(), file) : element("span", { class: "text" }, file));
    return element("li", {}, button);
  });
}

// Fetched by hand: a browser would ask for it without the key.
function thumbnail(blob, alt) {
  const image = element("img", { alt });
  blob.then((found) => { image.src = URL.createObjectURL(found); }, () => { /* its name is shown */ });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  return image;
}
