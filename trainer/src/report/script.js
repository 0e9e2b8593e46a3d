"use strict";
// Reads out the values below the pointer. Without this script the page is whole, only silent.
for (const figure of document.querySelectorAll("figure.chart")) {
  const svg = figure.querySelector("svg");
  if (!svg) continue;
  const out = figure.querySelector("output");
  const rule = svg.querySelector(".rule");
  const lines = [...svg.querySelectorAll("polyline")].map((line) => ({
    name: line.dataset.name,
    values: line.dataset.values.split(" ").map((pair) => pair.split(",")),
    points: line.getAttribute("points").split(" ").map((pair) => Number(pair.split(",")[0])),
  })).filter((line) => line.points.length);
  const nearest = (points, x) =>
    points.reduce((best, p, i) => (Math.abs(p - x) < Math.abs(points[best] - x) ? i : best), 0);
  svg.addEventListener("pointermove", (event) => {
    const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
    const found = lines.map((line) => ({ line, i: nearest(line.points, x) }));
    const first = found[0];
    rule.setAttribute("transform", `translate(${first.line.points[first.i]} 0)`);
    rule.style.visibility = "visible";
    out.textContent = `epoch ${first.line.values[first.i][0]}: ` +
      found.map(({ line, i }) => `${line.name} ${line.values[i][1]}`).join(", ");
  });
  svg.addEventListener("pointerleave", () => {
    rule.style.visibility = "hidden";
    out.textContent = "";
  });
}
for (const figure of document.querySelectorAll("figure.scatter")) {
  const out = figure.querySelector("output");
  figure.addEventListener("pointerover", (event) => {
    const title = event.target.closest("path.p")?.querySelector("title");
    if (title) out.textContent = title.textContent;
  });
}
