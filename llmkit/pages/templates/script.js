"use strict";
const show = (value) => {
  if (value === 0) return "0";
  if (Math.abs(value) < 1e-4) return value.toExponential(2);
  const digits = Math.max(0, 3 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en-US", {minimumFractionDigits: digits, maximumFractionDigits: digits});
};
const nearest = (steps, step) => {
  let low = 0, high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle; else high = middle;
  }
  return Math.abs(steps[low] - step) <= Math.abs(steps[high] - step) ? low : high;
};
for (const svg of document.querySelectorAll("svg[data-curves]")) {
  const chart = svg.closest("figure"), cross = svg.querySelector(".cross");
  const data = JSON.parse(svg.dataset.curves), frame = JSON.parse(svg.dataset.frame);
  const keys = chart.querySelectorAll(".keys b"), at = chart.querySelector(".at");
  const still = [...keys].map((key) => key.textContent), stillAt = at.textContent;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * frame.width;
    const aim = (x - frame.left) / (frame.right - frame.left) * frame.last;
    const step = data[0].steps[nearest(data[0].steps, aim)];
    const place = frame.left + step / frame.last * (frame.right - frame.left);
    cross.setAttribute("x1", place);
    cross.setAttribute("x2", place);
    cross.classList.add("on");
    at.textContent = frame.along + " " + step.toLocaleString("en-US");
    data.forEach((curve, i) => {
      const j = nearest(curve.steps, step);
      const far = Math.abs(curve.steps[j] - step) > frame.last / 100;
      const elsewhere = far ? " (" + frame.along + " " + curve.steps[j].toLocaleString("en-US") + ")" : "";
      keys[i].textContent = show(curve.values[j]) + elsewhere;
    });
  });
  svg.addEventListener("pointerleave", () => {
    cross.classList.remove("on");
    at.textContent = stillAt;
    keys.forEach((key, i) => { key.textContent = still[i]; });
  });
}
