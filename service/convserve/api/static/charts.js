// Drawings of a model card. All are SVG, sized by their viewBox.

import { count, percent, shape } from "./dom.js";

const text = (x, y, content, attributes = {}) => shape("text", { x, y, ...attributes }, content);
const line = (x1, y1, x2, y2, kind) => shape("line", { x1, y1, x2, y2, class: kind });
const label = (svg, title) => (svg.prepend(shape("title", {}, title)), svg);

// One row a layer: its width is the spatial size to scale, its height grows with the features;
// the line under it is the receptive field in the input's pixels or characters.
export function pyramid(layers, input) {
  const rows = layers.filter((row) => row.shape.length > 1);
  const widest = Math.max(input, ...rows.map((row) => row.shape.at(-1)));
  const scale = 300 / widest;
  const thick = (channels) => 3 + 1.6 * Math.log2(channels + 1);
  const svg = shape("svg", { class: "chart wide", viewBox: "0 0 760 10", role: "img" });
  let y = 14;
  svg.append(text(0, y, "layer"), text(250, y, "spatial size, to scale; line: receptive field"), text(600, y, "features × size · sees"));
  y += 14;
  for (const row of rows) {
    const height = thick(row.shape[0]);
    const size = row.shape.at(-1) * scale;
    const field = Math.min(row.receptive_field.at(-1), widest) * scale;
    const middle = 400;
    const kernel = row.kernel.join("×");
    const stride = row.stride.some((step) => step > 1) ? ` / ${row.stride.join("×")}` : "";
    svg.append(
      text(0, y + height / 2 + 4, `${row.kind} ${kernel}${stride}`),
      shape("rect", { x: middle - size / 2, y, width: Math.max(size, 1), height, class: "block" },
        shape("title", {}, `${row.layer}: ${count(row.parameters)} parameters, ${count(row.macs)} MACs`)),
      shape("rect", { x: middle - field / 2, y: y + height + 2, width: Math.max(field, 1), height: 1.5, class: "c1" }),
      text(600, y + height / 2 + 4, `${row.shape[0]} × ${row.shape.slice(1).join("×")} · ${row.receptive_field.join("×")}`),
    );
    y += height + 11;
  }
  svg.setAttribute("viewBox", `0 0 760 ${Math.ceil(y)}`);
  return label(svg, "The network's layers: their spatial size falls, their features grow");
}

// bins: [{confidence, accuracy, n}]
export function reliability(bins) {
  const side = 240;
  const svg = shape("svg", { class: "chart", viewBox: "-34 -8 290 290", role: "img" });
  const at = ({ confidence, accuracy }) => [side * confidence, side * (1 - accuracy)];
  const most = Math.max(...bins.map((bin) => bin.n));
  svg.append(line(0, side, side, side, "axis"), line(0, 0, 0, side, "axis"), line(0, side, side, 0, "ideal"),
    text(side / 2, side + 32, "said to be right", { "text-anchor": "middle" }),
    text(-side / 2, -24, "was right", { "text-anchor": "middle", transform: "rotate(-90)" }));
  for (const tick of [0, 0.5, 1]) {
    svg.append(text(side * tick, side + 15, percent(tick, 0), { "text-anchor": "middle" }));
  }
  svg.append(shape("polyline", { class: "curve", points: bins.map((bin) => at(bin).join(",")).join(" ") }));
  for (const bin of bins) {
    const [cx, cy] = at(bin);
    svg.append(shape("circle", { cx, cy, r: 2 + 5 * Math.sqrt(bin.n / most), class: "dot" },
      shape("title", {}, `${percent(bin.confidence)} said, ${percent(bin.accuracy)} right, n = ${count(bin.n)}`)));
  }
  return label(svg, "Calibration: how often answers of a given confidence were right");
}

// matrix[true][said], in samples
export function confusion(matrix, labels) {
  const cell = Math.max(12, Math.min(28, 360 / labels.length));
  const left = 110;
  const size = cell * labels.length;
  const svg = shape("svg", { class: "chart", viewBox: `0 0 ${left + size + 10} ${size + 95}`, role: "img" });
  matrix.forEach((row, i) => {
    const total = row.reduce((sum, n) => sum + n, 0) || 1;
    svg.append(text(left - 6, cell * (i + 0.5) + 4, labels[i], { "text-anchor": "end" }),
      text(0, 0, labels[i], { transform: `translate(${left + cell * (i + 0.5) + 4} ${size + 8}) rotate(90)` }));
    row.forEach((n, j) => svg.append(shape("rect", {
      x: left + cell * j, y: cell * i, width: cell - 1, height: cell - 1, class: "cell", "fill-opacity": (n / total) ** 0.5 || 0.03,
    }, shape("title", {}, `${labels[i]} taken for ${labels[j]}: ${count(n)} of ${count(total)}`))));
  });
  return label(svg, "Confusion: rows are what it was, columns what was said");
}

// points: [{batch_size, seconds}]; milliseconds per item over the batch size
export function cost(points) {
  const [width, height] = [320, 170];
  const svg = shape("svg", { class: "chart", viewBox: "-44 -10 390 230", role: "img" });
  const largest = Math.max(2, ...points.map((point) => point.batch_size));
  const each = points.map((point) => (1000 * point.seconds) / point.batch_size);
  const top = 1.15 * Math.max(...each);
  const at = (i) => [(width * Math.log2(points[i].batch_size)) / Math.log2(largest), height * (1 - each[i] / top)];
  svg.append(line(0, height, width, height, "axis"), line(0, 0, 0, height, "axis"),
    text(width / 2, height + 36, "batch size", { "text-anchor": "middle" }),
    text(-height / 2, -34, "ms per item", { "text-anchor": "middle", transform: "rotate(-90)" }),
    text(-4, 4, top.toPrecision(2), { "text-anchor": "end" }), text(-4, height, "0", { "text-anchor": "end" }));
  svg.append(shape("polyline", { class: "curve", points: points.map((_, i) => at(i).join(",")).join(" ") }));
  points.forEach((point, i) => {
    const [cx, cy] = at(i);
    svg.append(shape("circle", { cx, cy, r: 3.5, class: "dot" }, shape("title", {}, `${point.batch_size}: ${each[i].toFixed(3)} ms per item`)),
      text(cx, height + 16, String(point.batch_size), { "text-anchor": "middle" }));
  });
  return label(svg, "Cost of a run per item, by batch size, as measured here");
}
