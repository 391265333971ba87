"""The report's style sheet and script, as they stand in the file.

The page is whole without the script: it only moves the read-out of a chart from the last step to the
step under the pointer.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #1d2228; --quiet: #626b76; --rule: #e3e5e8; --grid: #eceef0;
  --blue: #1f6fc4; --orange: #c8590e; --green: #2c7f55; --violet: #7a4fb3; --red: #c03550;
  --teal: #1b8290; --brown: #8a5a2b; --pink: #c2479b; --warn: #fdf4e3; --warn-rule: #e6c88d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --card: #1b1f24; --ink: #e4e7ea; --quiet: #98a2ae; --rule: #2d333a; --grid: #272c33;
    --blue: #6aaef2; --orange: #f09a56; --green: #62c08f; --violet: #b794ea; --red: #f0808f;
    --teal: #55c2d0; --brown: #c79a68; --pink: #ee8fcb; --warn: #2b2415; --warn-rule: #6b5526;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "PingFang SC",
    "Microsoft YaHei", "Noto Sans CJK SC", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .35rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.12rem; margin: 2.75rem 0 .9rem; padding-bottom: .35rem; border-bottom: 1px solid var(--rule); }
h3 { font-size: .95rem; margin: 1.5rem 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .86em; }
pre {
  margin: .5rem 0; padding: .9rem 1rem; background: var(--card); border: 1px solid var(--rule); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5;
}
pre.sample { font-family: inherit; font-size: .97em; }
pre mark { background: none; color: var(--quiet); }
summary { cursor: pointer; color: var(--quiet); margin: .6rem 0; }
.missing {
  margin: 1.25rem 0 0; padding: .7rem 1rem; background: var(--warn); border: 1px solid var(--warn-rule);
  border-radius: 6px;
}
.missing p { margin: 0; font-weight: 600; }
ul { margin: .3rem 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .9rem; margin: 0 0 .8rem; }
.figure { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: .8rem 1rem .75rem; }
.figure span { display: block; color: var(--quiet); font-size: .86rem; }
.figure b { display: block; font-size: 1.75rem; line-height: 1.3; font-weight: 600; letter-spacing: -.01em; }
.figure:first-child b { color: var(--blue); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .7rem 1.5rem; margin: .8rem 0; }
dt { color: var(--quiet); font-size: .84rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .92rem; min-width: 50%; }
th, td { text-align: left; padding: .32rem 1.6rem .32rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--quiet); font-weight: 500; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; }
tfoot td { font-weight: 600; border-bottom: 0; }
.confusion th, .confusion td { padding: .25rem .55rem; }
.confusion .right { --heat: 31 111 196; } .confusion .wrong { --heat: 200 89 14; }
.heat-0 { background: rgb(var(--heat) / 6%); } .heat-1 { background: rgb(var(--heat) / 12%); }
.heat-2 { background: rgb(var(--heat) / 18%); } .heat-3 { background: rgb(var(--heat) / 24%); }
.heat-4 { background: rgb(var(--heat) / 30%); } .heat-5 { background: rgb(var(--heat) / 36%); }
.heat-6 { background: rgb(var(--heat) / 42%); } .heat-7 { background: rgb(var(--heat) / 48%); }
.heat-8 { background: rgb(var(--heat) / 54%); } .heat-9 { background: rgb(var(--heat) / 60%); }
.charts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; }
.charts.single { grid-template-columns: minmax(0, 42rem); }
.chart {
  margin: 0; padding: .85rem 1rem .6rem; background: var(--card); border: 1px solid var(--rule); border-radius: 6px;
  display: flex; flex-direction: column; justify-content: space-between;
}
.chart h3 { margin: 0; font-weight: 600; }
.chart h3 span { color: var(--quiet); font-weight: 400; font-size: .86rem; margin-left: .4rem; }
.keys { color: var(--quiet); font-size: .84rem; margin: .1rem 0 .5rem; min-height: 1.5em; }
.keys span { margin-right: 1rem; white-space: nowrap; }
.keys i {
  display: inline-block; width: .9rem; height: 0; border-top: 2.5px solid; vertical-align: .25em; margin-right: .35rem;
}
.keys b { color: var(--ink); font-weight: 600; }
svg { display: block; width: 100%; height: auto; overflow: visible; touch-action: pan-y; }
svg text { fill: var(--quiet); font-size: 9.5px; }
svg .grid { stroke: var(--grid); }
svg .axis { stroke: var(--quiet); stroke-opacity: .55; }
svg .cross { stroke: var(--quiet); stroke-dasharray: 2 2; visibility: hidden; }
svg .cross.on { visibility: visible; }
svg .diagonal { stroke: var(--quiet); stroke-dasharray: 4 3; }
svg .bar { fill: var(--blue); fill-opacity: .45; }
svg .count { font-size: 7.5px; }
svg path { fill: none; stroke: currentColor; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }
svg circle { fill: currentColor; }
.blue, .faint { color: var(--blue); } .orange { color: var(--orange); }
.green { color: var(--green); } .violet { color: var(--violet); }
.red { color: var(--red); } .teal { color: var(--teal); } .brown { color: var(--brown); } .pink { color: var(--pink); }
svg .dashed path { stroke-dasharray: 5 3; } .keys i.dashed { border-top-style: dashed; }
svg .faint path { stroke-width: .9; stroke-opacity: .38; }
i.faint { opacity: .45; }
@media (max-width: 46rem) {
  main { padding: 1.5rem .9rem 3rem; }
  .charts, .charts.single { grid-template-columns: minmax(0, 1fr); }
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .6rem; }
  .figure b { font-size: 1.4rem; }
  svg text { font-size: 11.5px; }
}
@media print {
  .chart, .figure { break-inside: avoid; }
}
"""

SCRIPT = """
"use strict";
const show = (value) => {
  if (value === 0) return "0";
  const digits = Math.min(8, Math.max(0, 3 - Math.floor(Math.log10(Math.abs(value)))));
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
for (const chart of document.querySelectorAll("figure.chart:not(.still)")) {
  const svg = chart.querySelector("svg"), cross = svg.querySelector(".cross");
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
"""
