// What the page asks of the service. Paths are relative, so that a proxy's prefix does not matter.

const TOP = 8;

export class Problem extends Error {
  constructor(body, status) {
    super(body.detail || body.title || `status ${status}`);
    this.title = body.title;
    this.type = body.type;
    this.code = body.code;
  }
}

async function json(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(body, response.status);
  return body;
}

export const models = async () => (await json(await fetch("v1/models"))).models;
export const card = async (name) => json(await fetch(`v1/models/${encodeURIComponent(name)}`));
export const predictUrl = (name) => new URL(`v1/models/${encodeURIComponent(name)}/predict`, document.baseURI).href;
export const sampleUrl = (name, version, file) =>
  `v1/models/${encodeURIComponent(name)}/versions/${version}/samples/${encodeURIComponent(file.split("/").at(-1))}`;

// `input` is {data: Blob or string, type: its media type}.
export async function predict(model, input, signal) {
  const began = performance.now();
  const labels = model.manifest.postprocess.labels;
  const query = labels ? `?top_k=${Math.min(TOP, labels.length)}` : "";
  const response = await fetch(predictUrl(model.name) + query, {
    method: "POST", headers: { "Content-Type": input.type }, body: input.data, signal,
  });
  const body = await json(response);
  return {
    ...body,
    spans: spans(response.headers.get("Server-Timing") || ""),
    seconds: (performance.now() - began) / 1000,
    batchSize: response.headers.get("X-Batch-Size"),
  };
}

export async function explain(name, input, query) {
  const response = await fetch(`v1/models/${encodeURIComponent(name)}/explain?${new URLSearchParams(query)}`, {
    method: "POST", headers: { "Content-Type": input.type, Accept: "application/json" }, body: input.data,
  });
  return json(response);
}

// Server-Timing (W3C) → milliseconds by name.
export function spans(header) {
  const entries = header.split(",").map((part) => part.trim().match(/^([\w-]+);dur=([\d.]+)$/)).filter(Boolean);
  return Object.fromEntries(entries.map(([, name, value]) => [name, Number(value)]));
}
