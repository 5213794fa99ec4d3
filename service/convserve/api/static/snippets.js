// The call the page just made, for a shell, Python and Node.

import { element } from "./dom.js";
import { hasKey, predictUrl } from "./service.js";

const FILES = { image: "photo.jpg", audio: "sound.wav", text: "text.txt", cepstra: "cepstra.npy" };
const TYPES = { image: "image/jpeg", audio: "audio/wav", text: "text/plain", cepstra: "application/octet-stream" };

export function calls(name, modality, input) {
  const url = predictUrl(name);
  const type = input ? input.type : TYPES[modality];
  const file = input && input.file ? input.file : FILES[modality];
  const typed = input && typeof input.data === "string" && !input.file ? input.data : null;
  const literal = JSON.stringify(typed); // of Python as well as of JavaScript
  const key = hasKey(); // itself it is never shown: the code reads it from the environment
  return {
    curl: `curl ${typed === null ? `--data-binary @${file}` : `--data-raw ${quoted(typed)}`} -H 'Content-Type: ${type}'${key ? ' -H "X-API-Key: $KEY"' : ""} '${url}'`,
    Python: [
      "import json", ...key ? ["import os"] : [], ...typed === null ? ["from pathlib import Path"] : [], "from urllib.request import Request, urlopen", "",
      `body = ${typed === null ? `Path("${file}").read_bytes()` : `${literal}.encode()`}`,
      `request = Request("${url}", body, {"Content-Type": "${type}"${key ? ', "X-API-Key": os.environ["KEY"]' : ""}})`,
      "print(json.load(urlopen(request)))",
    ].join("\n"),
    JavaScript: [
      ...(typed === null ? ['import { readFile } from "node:fs/promises";', ""] : []),
      `const response = await fetch("${url}", {`,
      '  method: "POST",',
      `  headers: { "Content-Type": "${type}"${key ? ', "X-API-Key": process.env.KEY' : ""} },`,
      `  body: ${typed === null ? `await readFile("${file}")` : literal},`,
      "});",
      "console.log(await response.json());",
    ].join("\n"),
  };
}

// A text as one word of a shell.
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function snippets(name, modality, input) {
  const code = element("pre", { tabindex: "0" });
  const texts = calls(name, modality, input);
  const buttons = Object.keys(texts).map((language) =>
    element("button", { type: "button", click: () => choose(language) }, language));
  const copy = element("button", { type: "button", click: async () => {
    await navigator.clipboard.writeText(code.textContent);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  } }, "Copy");
  function choose(language) {
    code.textContent = texts[language];
    buttons.forEach((button) => button.setAttribute("aria-pressed", button.textContent === language));
    snippets.language = language;
  }
  choose(snippets.language in texts ? snippets.language : "curl");
  return [element("div", { class: "row" }, ...buttons, navigator.clipboard && copy), code];
}
