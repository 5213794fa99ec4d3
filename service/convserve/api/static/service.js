// What the page asks of the service. Paths are relative, so that a proxy's prefix does not matter.

const TOP = 8;
const KEY = "convserve-key";

let key = kept();

export class Problem extends Error {
  constructor(body, status) {
    super(body.detail || body.title || `status ${status}`);
    this.title = body.title;
    this.type = body.type;
    this.code = body.code;
    this.refused = status === 401 || status === 403; // another key would help
  }
}

// The key lives as long as the tab, or as the page where the browser keeps nothing.
function kept() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export const hasKey = () => Boolean(key);

export function useKey(value) {
  key = value;
  try {
    sessionStorage.setItem(KEY, value);
  } catch { /* see kept() */ }
}

// Whoever listens for "refused" asks for a key.
async function call(url, { headers = {}, ...options } = {}) {
  const response = await fetch(url, { ...options, headers: key ? { ...headers, "X-API-Key": key } : headers });
  if (response.ok) return response;
  const problem = new Problem(await response.json().catch(() => ({})), response.status);
  if (problem.refused) dispatchEvent(new CustomEvent("refused", { detail: problem }));
  throw problem;
}

const path = (name) => `v1/models/${encodeURIComponent(name)}`;

export const models = async () => (await (await call("v1/models")).json()).models;
export const card = async (name) => (await call(path(name))).json();
export const predictUrl = (name) => new URL(`${path(name)}/predict`, document.baseURI).href;

// A raw input that the artifact carries, as a Blob.
export async function sample(name, version, file) {
  return (await call(`${path(name)}/versions/${version}/samples/${encodeURIComponent(file.split("/").at(-1))}`)).blob();
}

// `input` is {data: Blob or string, type: its media type}.
export async function predict(model, input, signal) {
  const began = performance.now();
  const labels = model.manifest.postprocess.labels;
  const query = labels ? `?top_k=${Math.min(TOP, labels.length)}` : "";
  const response = await call(predictUrl(model.name) + query, {
    method: "POST", headers: { "Content-Type": input.type }, body: input.data, signal,
  });
  return {
    ...await response.json(),
    spans: spans(response.headers.get("Server-Timing") || ""),
    seconds: (performance.now() - began) / 1000,
    batchSize: response.headers.get("X-Batch-Size"),
  };
}

export async function explain(name, input, query) {
  const response = await call(`${path(name)}/explain?${new URLSearchParams(query)}`, {
    method: "POST", headers: { "Content-Type": input.type, Accept: "application/json" }, body: input.data,
  });
  return response.json();
}

// Server-Timing (W3C) → milliseconds by name.
export function spans(header) {
  const entries = header.split(",").map((part) => part.trim().match(/^([\w-]+);dur=([\d.]+)$/)).filter(Boolean);
  return Object.fromEntries(entries.map(([, name, value]) => [name, Number(value)]));
}
