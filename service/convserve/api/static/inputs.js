// Ways to give a model something: a picture, a text or a sound.

import { element } from "./dom.js";

// Each returns an element that shows an input: {data, type, name}; `give` is called with a new one.
export const editors = { image: picture, text: sentence, audio: sound, cepstra: numbers };

function picture(give) {
  const shown = element("div", {}, element("p", {}, "Drop or paste a picture here"));
  const file = fileButton("Choose a file", "image/*", take);
  const camera = element("button", { type: "button", click: () => photograph(shown, take) }, "Camera");
  const zone = element("div", { class: "drop" }, shown);
  const node = element("div", {}, zone, element("div", { class: "row" }, file, navigator.mediaDevices && camera));
  acceptDrops(zone, take);
  node.show = (input) => show(shown, input);
  function take(blob, name = "picture") {
    give({ data: blob, type: blob.type || "image/png", name });
  }
  return node;
}

function show(place, input) {
  const url = URL.createObjectURL(input.data);
  const image = element("img", { src: url, alt: `The picture to be recognised: ${input.name}` });
  image.addEventListener("load", () => {
    URL.revokeObjectURL(url);
    image.classList.toggle("pixelated", image.naturalWidth < 100);
  });
  place.replaceChildren(image);
}

function sentence(give) {
  const area = element("textarea", { "aria-label": "Text", spellcheck: "false", placeholder: "Type or paste a text" });
  let timer;
  area.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => area.value.trim() && give({ data: area.value, type: "text/plain", name: "text" }), 250);
  });
  const node = element("div", {}, area);
  node.show = (input) => { if (area.value !== input.data) area.value = input.data; };
  return node;
}

function sound(give) {
  const player = element("audio", { controls: true });
  const take = (blob, name = "sound") => give({ data: blob, type: (blob.type || "audio/wav").split(";")[0], name });
  const zone = element("div", { class: "drop" }, element("p", {}, "Drop a WAV, FLAC or OGG file here"), player);
  const record = element("button", { type: "button", click: () => toggleRecording(record, take) }, "Record");
  const node = element("div", {}, zone, element("div", { class: "row" },
    fileButton("Choose a file", "audio/*", take), navigator.mediaDevices && record));
  acceptDrops(zone, take);
  node.show = (input) => { player.src = URL.createObjectURL(input.data); };
  return node;
}

function numbers(give) {
  const take = (blob, name = "cepstra.npy") => give({ data: blob, type: "application/octet-stream", name });
  const shown = element("p", {}, "Drop a NumPy file of cepstra here");
  const zone = element("div", { class: "drop" }, shown);
  const node = element("div", {}, zone, element("div", { class: "row" }, fileButton("Choose a file", ".npy", take)));
  acceptDrops(zone, take);
  node.show = (input) => { shown.textContent = `${input.name}, ${input.data.size.toLocaleString("en")} bytes`; };
  return node;
}

export function fileButton(label, accept, take) {
  const file = element("input", { type: "file", accept, class: "visually-hidden", tabindex: "-1", "aria-label": label });
  file.addEventListener("change", () => file.files[0] && take(file.files[0], file.files[0].name));
  const button = element("button", { type: "button", click: () => file.click() }, label);
  return element("span", {}, file, button);
}

function acceptDrops(zone, take) {
  const over = (on) => (event) => { event.preventDefault(); zone.classList.toggle("over", on); };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    const [file] = event.dataTransfer.files;
    if (file) take(file, file.name);
  });
  document.onpaste = (event) => {
    const file = [...event.clipboardData.files][0];
    if (file) take(file, file.name);
  };
}

async function photograph(place, take) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: true });
  const video = element("video", { playsinline: true });
  video.srcObject = stream;
  const snap = element("button", { type: "button", click: () => {
    const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    stream.getTracks().forEach((track) => track.stop());
    canvas.toBlob((blob) => take(blob, "photo.jpg"), "image/jpeg");
  } }, "Take the picture");
  place.replaceChildren(video);
  await video.play();
  place.append(snap); // not before there is a frame: a picture of none would be empty
}

// Browsers record in formats of their own: the samples are taken as they come and written as WAV.
let recording = null;

async function toggleRecording(button, take) {
  if (recording) {
    const { context, stream, parts } = recording;
    recording = null;
    button.textContent = "Record";
    stream.getTracks().forEach((track) => track.stop());
    const rate = context.sampleRate;
    await context.close();
    take(wav(parts, rate), "recording.wav");
    return;
  }
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const context = new AudioContext();
  await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
  const tap = new AudioWorkletNode(context, "recorder");
  const parts = [];
  tap.port.onmessage = (event) => parts.push(event.data);
  context.createMediaStreamSource(stream).connect(tap);
  recording = { context, stream, parts };
  button.textContent = "Stop";
}

// Float samples → 16-bit mono PCM in a RIFF WAVE file.
export function wav(parts, rate) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  const text = (at, string) => [...string].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true);
  view.setUint16(34, 16, true); text(36, "data"); view.setUint32(40, 2 * length, true);
  let at = 44;
  for (const part of parts) {
    for (const sample of part) {
      view.setInt16(at, Math.max(-1, Math.min(1, sample)) * 32767, true);
      at += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}
