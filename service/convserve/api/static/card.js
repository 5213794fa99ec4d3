// The model card: where it comes from, how good it is, what it looks like inside, what it costs here.

import { confusion, cost, pyramid, reliability } from "./charts.js";
import { count, element, facts, percent, table } from "./dom.js";
import { featureMaps } from "./features.js";

const RATES = new Set(["accuracy", "ece", "ece_uncalibrated", "coverage", "ler", "wer", "exact", "in_distribution", "auroc"]);
const NAMES = {
  nll: "negative log likelihood", ece: "calibration error (ECE)", ece_uncalibrated: "the same before calibration",
  coverage: "sets that hold the truth", set_size: "labels in a set", in_distribution: "taken as usual", ler: "letters wrong (LER)", wer: "words wrong (WER)",
  exact: "without an error", auroc: "strangers told apart (AUROC)",
};

export function card(model) {
  const manifest = model.manifest;
  if (!manifest) return [element("p", { class: "problem" }, `${model.name} is ${model.state}: ${model.reason || "no card"}`)];
  return [
    element("h1", {}, model.title || model.name),
    panel("About", about(model, manifest)),
    manifest.metrics && panel("Figures", figures(manifest)),
    manifest.evaluation && panel("On the test split", drawings(manifest)),
    manifest.pyramid && manifest.pyramid.length && panel("Inside", inside(manifest)),
    manifest.graphs.features && panel("What each convolution answers to a picture", featureMaps(model)),
    model.cost && model.cost.length && panel("Cost on this machine", costs(model)),
    manifest.notes && manifest.notes.length && panel("Limits and deviations from the paper",
      element("ul", {}, ...manifest.notes.map((note) => element("li", {}, note)))),
  ].filter(Boolean);
}

function panel(title, ...content) {
  return element("section", { class: "panel" }, element("h2", {}, title), ...content);
}

function link(url) {
  return url && element("a", { href: url, rel: "noreferrer" }, url);
}

function about(model, { architecture = {}, dataset = {}, ...manifest }) {
  const sizes = Object.entries(dataset.n || {}).map(([split, n]) => `${count(n)} ${split.replace("_", " ")}`);
  return facts([
    ["state", model.reason ? `${model.state}: ${model.reason}` : model.state],
    ["version", model.version], ["task", manifest.task], ["network", architecture.name], ["paper", link(architecture.paper)],
    ["parameters", architecture.parameters && count(architecture.parameters)],
    ["multiply-accumulates", architecture.macs && count(architecture.macs)],
    ["answering graph", manifest.graphs.int8 && model.precision && `${model.precision.graph}: ${model.precision.reason}`],
    ["trained on", dataset.name], ["samples", sizes.join(", ")], ["data", link(dataset.source)],
    ["licence of the data", dataset.licence], ["licence", manifest.licence],
    ["labels", ((manifest.postprocess || {}).labels || []).slice(0, 20).join(", ")],
  ]);
}

function figures({ metrics, baselines = [] }) {
  const show = (metric) => (RATES.has(metric.name) ? percent(metric.value, 2) : metric.value.toPrecision(4));
  const row = (what, metric) => [what, show(metric),
    metric.interval ? metric.interval.map((end) => percent(end)).join(" – ") : "", count(metric.n), metric.split];
  const rows = [...metrics.map((metric) => row(NAMES[metric.name] || metric.name, metric)),
    ...baselines.map((metric) => row(`${metric.name} of ${metric.model || "the baseline"}`, metric))];
  return table(["figure", "value", "95 % interval", "n", "split"], rows, [1, 2, 3]);
}

function drawings({ evaluation, postprocess }) {
  const parts = [];
  if (evaluation.reliability) parts.push(element("div", {}, element("h3", {}, "Calibration"), reliability(evaluation.reliability)));
  if (evaluation.confusion) {
    parts.push(element("div", {}, element("h3", {}, "Confusion: rows are the truth"), confusion(evaluation.confusion, postprocess.labels)));
  }
  return element("div", { class: "columns" }, ...parts);
}

function inside({ pyramid: layers, inputs }) {
  const input = inputs[0].shape.length > 2 ? inputs[0].shape[2] : inputs[0].shape.at(-1);
  return element("div", { class: "scroll", tabindex: "0" }, pyramid(layers, input));
}

function decided({ batch_size, layout: { executors, threads }, reason }) {
  return `The engine runs ${executors} at once on ${threads} ${threads > 1 ? "threads" : "thread"} each (${reason}), `
    + `batches of ${batch_size} at most: more would gain less than 5 %.`;
}

function costs(model) {
  const [points] = Object.values(Object.groupBy(model.cost, (point) => JSON.stringify(point.shapes)));
  const decision = model.execution && element("p", {}, decided(model.execution));
  const chart = element("div", {}, cost(points));
  const rows = points.map((point) => [String(point.batch_size), (1000 * point.seconds).toFixed(2),
    ((1000 * point.seconds) / point.batch_size).toFixed(3)]);
  return element("div", {}, decision || "", element("div", { class: "columns" }, chart,
    table(["batch size", "ms per run", "ms per item"], rows, [0, 1, 2])));
}
