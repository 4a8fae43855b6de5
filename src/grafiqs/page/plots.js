"use strict";
/* Plots as inline SVG. */

const WIDE = 320;
const HIGH = 160;

/* Okabe and Ito's colours, which colour-blind people can tell apart; lines differ by their dashes, too. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];

/** The stroke of the line with this number. */
function stroke(number) {
  return { stroke: COLOURS[number % COLOURS.length], "stroke-dasharray": DASHES[number % DASHES.length] };
}

/** An SVG, with what it shows in words for those who do not see it. */
function drawing(words, wide, high, ...children) {
  return make("svg", { viewBox: `0 0 ${wide} ${high}`, class: wide > WIDE ? "big" : null, role: "img", "aria-label": words }, ...children);
}

/** Bars of counts between two ends of an axis; `short` says of a value whether it falls below a limit. */
function bars(words, counts, low, high, { beyond = false, better = null, short = () => false } = {}) {
  const most = Math.max(...counts, 1);
  const width = WIDE / counts.length;
  const svg = drawing(words, WIDE, HIGH);
  counts.forEach((count, place) => {
    const [from, to] = [place, place + 1].map((end) => low + (end * (high - low)) / counts.length);
    const tall = count ? Math.max(1.5, (count / most) * (HIGH - 34)) : 0;
    svg.append(make("rect", { class: short((from + to) / 2) ? "bar below" : "bar", x: place * width + 0.5, y: HIGH - 16 - tall, width: Math.max(0.5, width - 1), height: tall },
      tip(`${said(from)} to ${said(to)}: ${count.toLocaleString("en")}`)));
  });
  svg.append(
    make("line", { class: "axis", x1: 0, x2: WIDE, y1: HIGH - 15.5, y2: HIGH - 15.5 }),
    make("text", { x: 2, y: HIGH - 3 }, said(low)),
    make("text", { x: WIDE - 2, y: HIGH - 3, "text-anchor": "end" }, `${said(high)}${beyond ? " and more" : ""}`),
    make("text", { x: 2, y: 12 }, `most: ${most.toLocaleString("en")}`));
  if (better) svg.append(make("text", { x: WIDE - 2, y: 12, "text-anchor": "end" }, better));
  return svg;
}

/** The distribution of a score of all images of the run. */
function histogram(run, score, limit = null) {
  const { low, high, counts } = run.distributions[score];
  const measure = measureOf(run, score);
  return bars(`Distribution of ${score}, from ${said(low)} to ${said(high)}; what lies beyond is in the last bar`, counts, low, high, {
    beyond: true, better: measure.higher ? "better →" : "← better",
    short: (value) => limit !== null && isBetter(measure, limit, value),
  });
}

/** The distribution of the qualities on the page. */
function qualityHistogram(run, score) {
  const counts = new Array(20).fill(0);
  for (const quality of run.qualities[score]) counts[Math.min(19, Math.floor(quality / 5))] += 1;
  return bars(`Distribution of the quality by ${score}, from 0 to 100`, counts, 0, 100, { better: "better →" });
}

/** A figure: a plot and what is said below it. */
function figure(plot, ...words) {
  return make("figure", {}, plot, make("figcaption", {}, ...words));
}

/** One measure against another; its points are faces, and a click shows the nearest one. */
function scatter(run, first, second, show) {
  const [wide, high, edge] = [560, 420, 30];
  const scale = (measure) => {
    const sorted = [...measure.values].sort((one, other) => one - other);
    const [low, top] = [sorted[0], sorted[Math.max(0, Math.ceil(sorted.length * 0.995) - 1)]];
    return { low, top, place: (value) => Math.min(1, Math.max(0, (value - low) / (top - low || 1))) };
  };
  const [across, up] = [scale(first), scale(second)];
  const every = Math.max(1, Math.ceil(run.path.length / 3000));
  const points = [];
  const svg = drawing(`${second.label} against ${first.label}: a point for each ${every > 1 ? `${every}th ` : ""}face`, wide, high);
  for (let row = 0; row < run.path.length; row += every) {
    const [x, y] = [edge + across.place(first.values[row]) * (wide - edge - 8), high - edge - up.place(second.values[row]) * (high - edge - 8)];
    points.push([x, y, row]);
    svg.append(make("circle", { class: "dot", cx: x.toFixed(1), cy: y.toFixed(1), r: 3 }, tip(run.path[row])));
  }
  svg.append(
    make("line", { class: "axis", x1: edge, x2: wide, y1: high - edge + 4, y2: high - edge + 4 }),
    make("line", { class: "axis", x1: edge - 4, x2: edge - 4, y1: 0, y2: high - edge }),
    make("text", { x: wide / 2, y: high - 6, "text-anchor": "middle" }, `${first.label}: ${said(across.low)} to ${said(across.top)}`),
    make("text", { x: 16, y: high / 2, "text-anchor": "middle", transform: `rotate(-90 16 ${high / 2})` }, `${second.label}: ${said(up.low)} to ${said(up.top)}`));
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) * wide) / box.width, ((event.clientY - box.top) * high) / box.height];
    const far = (point) => (point[0] - x) ** 2 + (point[1] - y) ** 2;
    const nearest = points.reduce((one, other) => (far(other) < far(one) ? other : one), points[0]);
    if (nearest && far(nearest) < 400) show(nearest[2]);
  });
  return svg;
}

/** Lines through points (x, y), each with a name; `steps` draws them as stairs. */
function lines(words, curves, { xMax, yMax, xLabel, yLabel, steps = false }) {
  const [wide, high, left, below] = [560, 340, 60, 42];
  const across = (value) => left + (Math.min(value, xMax) / xMax) * (wide - left - 8);
  const up = (value) => high - below - (Math.min(value, yMax) / (yMax || 1)) * (high - below - 26);
  const svg = drawing(words, wide, high);
  for (let tick = 0; tick <= 4; tick += 1) {
    const [x, y] = [(tick / 4) * xMax, (tick / 4) * yMax];
    svg.append(
      make("line", { class: "grid", x1: left, x2: wide - 8, y1: up(y), y2: up(y) }),
      make("text", { x: left - 4, y: up(y) + 4, "text-anchor": "end" }, percent(y)),
      make("text", { x: across(x), y: high - below + 17, "text-anchor": tick === 4 ? "end" : "middle" }, percent(x)));
  }
  curves.forEach(({ name, x, y }, number) => {
    let path = "";
    for (let place = 0; place < x.length && (place === 0 || x[place - 1] <= xMax); place += 1) {
      const [at, rate] = [across(x[place]).toFixed(1), up(y[place]).toFixed(1)];
      if (!path) path = `M${at} ${rate}`;
      else path += steps ? `H${at}V${rate}` : `L${at} ${rate}`;
    }
    if (steps && path) path += `H${across(xMax).toFixed(1)}`;
    svg.append(make("path", { class: "curve", d: path, ...stroke(number) }, tip(name)));
  });
  svg.append(
    make("text", { x: (wide + left) / 2, y: high - 4, "text-anchor": "middle" }, xLabel),
    make("text", { x: left + 4, y: 14 }, yLabel));
  return svg;
}

/** What each line is called. */
function legend(names) {
  return make("ul", { class: "legend" }, ...names.map((name, number) => make("li", {},
    make("svg", { viewBox: "0 0 30 8", "aria-hidden": "true" }, make("line", { class: "curve", x1: 0, x2: 30, y1: 4, y2: 4, ...stroke(number) })), name)));
}
