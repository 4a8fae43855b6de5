"use strict";
/* Plots as inline SVG. */

const WIDE = 320;
const HIGH = 160;

/* Six colours that colour-blind people can tell apart (style.css), and four dashes: 24 lines, no two alike. */
const COLOURS = 6;
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];

/** What draws the line with this number, or one that is the baseline. */
function stroke(number, baseline = false) {
  if (baseline) return { class: "curve baseline" };
  return { class: `curve line${number % COLOURS}`, "stroke-dasharray": DASHES[(number + Math.floor(number / COLOURS)) % DASHES.length] };
}

/** An SVG, with what it shows in words for those who do not see it. */
function drawing(words, wide, high, ...children) {
  return make("svg", { viewBox: `0 0 ${wide} ${high}`, class: wide > WIDE ? "big" : null, role: "img", "aria-label": words }, ...children);
}

/** Bars of counts between two ends of an axis; those that `isShort` are hollow, and a line stands at the `limit`. */
function bars(words, counts, low, high, { beyond = 0, better = "", limit = null, isShort = () => false } = {}) {
  const most = Math.max(...counts, 1);
  const width = WIDE / counts.length;
  const svg = drawing(words, WIDE, HIGH);
  counts.forEach((count, place) => {
    const ends = [place, place + 1].map((end) => low + (end * (high - low)) / counts.length);
    const tall = count ? Math.max(1.5, (count / most) * (HIGH - 42)) : 0;
    svg.append(make("rect", { class: ends.every(isShort) ? "bar below" : "bar", x: place * width + 0.5, y: HIGH - 20 - tall, width: Math.max(0.5, width - 1), height: tall },
      tip(`${said(ends[0])} to ${said(ends[1])}: ${count.toLocaleString("en")}`)));
  });
  svg.append(
    make("line", { class: "axis", x1: 0, x2: WIDE, y1: HIGH - 19.5, y2: HIGH - 19.5 }),
    make("text", { x: 2, y: HIGH - 4 }, said(low)),
    make("text", { x: WIDE - 2, y: HIGH - 4, "text-anchor": "end" }, `${said(high)}${beyond ? `, ${beyond.toLocaleString("en")} beyond` : ""}`),
    make("text", { x: 2, y: 14 }, `most: ${most.toLocaleString("en")}`),
    make("text", { x: WIDE - 2, y: 14, "text-anchor": "end" }, better));
  if (limit !== null && limit >= low && limit <= high) {
    const x = ((limit - low) / (high - low)) * WIDE;
    svg.append(make("line", { class: "limit", x1: x, x2: x, y1: 18, y2: HIGH - 20 }));
  }
  return svg;
}

/** The distribution of a score of all images of the run. */
function histogram(run, score, limit = null) {
  const { low, high, counts, beyond } = run.distributions[score];
  const measure = measureOf(run, score);
  return bars(`Distribution of ${score}, from ${said(low)} to ${said(high)}, ${counted(beyond, "image")} beyond`, counts, low, high, {
    beyond, better: measure.higher ? "better →" : "← better", limit, isShort: (value) => limit !== null && isBetter(measure, limit, value),
  });
}

/** The distribution of the qualities of all images of the run. */
function qualityHistogram(run, score) {
  return bars(`Distribution of the quality by ${score}, from 0 to 100`, run.quality_counts[score], 0, 100, { better: "better →" });
}

/** A figure: a plot and what is said below it. */
function figure(plot, ...words) {
  return make("figure", {}, plot, make("figcaption", {}, ...words));
}

const POINTS = 3000;
/* As many faces are drawn as points; of more, so many evenly over the ranking. */

/** One measure against another; its points are faces, and a click shows the nearest one. */
function scatter(run, first, second, show) {
  const [wide, high, edge] = [560, 420, 34];
  const scale = (measure) => {
    const sorted = [...measure.values].sort((one, other) => one - other);
    const [low, top] = [sorted[0], sorted[Math.max(0, Math.ceil(sorted.length * 0.995) - 1)]];
    return { low, top, place: (value) => Math.min(1, Math.max(0, (value - low) / (top - low || 1))) };
  };
  const [across, up] = [scale(first), scale(second)];
  const every = Math.ceil(run.path.length / POINTS);
  const rows = worstFirst(second).filter((_, place, order) => place % every === 0 || place === order.length - 1);
  const points = [];
  const svg = drawing(`${second.label} against ${first.label}: ${counted(rows.length, "face")}; arrow keys go from one to the next, Enter shows it`, wide, high);
  for (const row of rows) {
    const [x, y] = [edge + across.place(first.values[row]) * (wide - edge - 8), high - edge - up.place(second.values[row]) * (high - edge - 8)];
    points.push([x, y, row]);
    svg.append(make("circle", { class: "dot", cx: x.toFixed(1), cy: y.toFixed(1), r: 3 }, tip(`${run.path[row]}: ${said(first.values[row])}, ${said(second.values[row])}`)));
  }
  svg.append(
    make("line", { class: "axis", x1: edge, x2: wide, y1: high - edge + 4, y2: high - edge + 4 }),
    make("line", { class: "axis", x1: edge - 4, x2: edge - 4, y1: 0, y2: high - edge }),
    make("text", { x: wide / 2, y: high - 6, "text-anchor": "middle" }, `${first.label}: ${said(across.low)} to ${said(across.top)}`),
    make("text", { x: 18, y: high / 2, "text-anchor": "middle", transform: `rotate(-90 18 ${high / 2})` }, `${second.label}: ${said(up.low)} to ${said(up.top)}`));
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) * wide) / box.width, ((event.clientY - box.top) * high) / box.height];
    const far = (point) => (point[0] - x) ** 2 + (point[1] - y) ** 2;
    const nearest = points.reduce((one, other) => (far(other) < far(one) ? other : one), points[0]);
    if (nearest && far(nearest) < 400) show(nearest[2]);
  });
  reachable(svg, points, show);
  return svg;
}

/** Let keys go from point to point, by the first measure, and open a face. */
function reachable(svg, points, show) {
  const order = [...points].sort((one, other) => one[0] - other[0]);
  const mark = make("circle", { class: "mark", r: 7, visibility: "hidden" });
  let place = 0;
  svg.append(mark);
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("focus", () => go(0));
  svg.addEventListener("blur", () => mark.setAttribute("visibility", "hidden"));
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey || !(by || event.key === "Enter")) return;
    event.preventDefault();
    if (by) go(by);
    else show(order[place][2]);
  });
  const go = (by) => {
    place = Math.min(order.length - 1, Math.max(0, place + by));
    const [x, y] = order[place];
    for (const [name, value] of [["cx", x], ["cy", y], ["visibility", "visible"]]) mark.setAttribute(name, value);
  };
}

/** Lines through points (x, y), each with a name; `steps` draws them as stairs. */
function lines(words, curves, { xMax, yMax, xLabel, yLabel, steps = false }) {
  const [wide, high, left, below] = [560, 340, 72, 48];
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
  curves.forEach(({ name, x, y, baseline }, number) => {
    let path = "";
    for (let place = 0; place < x.length && (place === 0 || x[place - 1] <= xMax); place += 1) {
      const [at, rate] = [across(x[place]).toFixed(1), up(y[place]).toFixed(1)];
      if (!path) path = `M${at} ${rate}`;
      else path += steps ? `H${at}V${rate}` : `L${at} ${rate}`;
    }
    if (steps && path) path += `H${across(xMax).toFixed(1)}`;
    svg.append(make("path", { d: path, ...stroke(number, baseline) }, tip(name)));
  });
  svg.append(
    make("text", { x: (wide + left) / 2, y: high - 4, "text-anchor": "middle" }, xLabel),
    make("text", { x: left + 4, y: 14 }, yLabel));
  return svg;
}

/** What each line is called. */
function legend(drawn) {
  return make("ul", { class: "legend" }, ...drawn.map(({ name, baseline }, number) => make("li", {},
    make("svg", { viewBox: "0 0 30 8", "aria-hidden": "true" }, make("line", { x1: 0, x2: 30, y1: 4, y2: 4, ...stroke(number, baseline) })), printable(name))));
}
