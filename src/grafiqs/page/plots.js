"use strict";
/* Plots as inline SVG: distributions, layers against each other, curves of an evaluation. */

const WIDE = 320;
const HIGH = 150;

/** An SVG with what it shows in words, for those who do not see it. */
function drawing(words, wide = WIDE, high = HIGH) {
  return make("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": words });
}

/** The distribution of a score: bars, those that fall short of a limit in another colour and hatched by a line below. */
function histogram(run, score, limit = null) {
  const { low, high, counts } = run.distributions[score];
  const most = Math.max(...counts, 1);
  const svg = drawing(`Distribution of ${score}: from ${said(low)} to ${said(high)} and beyond`);
  const width = WIDE / counts.length;
  counts.forEach((count, place) => {
    const middle = low + ((place + 0.5) * (high - low)) / counts.length;
    const short = limit !== null && !isBetter(run, score, middle, limit) && middle !== limit;
    const tall = (count / most) * (HIGH - 20);
    svg.append(make("rect", { class: short ? "below" : "bar", x: place * width, y: HIGH - 16 - tall, width: Math.max(1, width - 1), height: tall },
      make("title", {}, `${said(middle)}: ${count}`)));
  });
  svg.append(make("text", { x: 2, y: HIGH - 3 }, said(low)), make("text", { x: WIDE - 2, y: HIGH - 3, "text-anchor": "end" }, `${said(high)} +`));
  return svg;
}

/** One score against another; its points are faces, and a click shows one. */
function scatter(run, first, second, show) {
  const svg = drawing(`${second} against ${first}, a point a face`, WIDE, WIDE);
  const scale = (values) => {
    const sorted = [...values].sort((one, other) => one - other);
    const low = sorted[0];
    const high = sorted[Math.max(0, Math.ceil(sorted.length * 0.99) - 1)];
    return (value) => Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
  };
  const [across, up] = [scale(run.values[first]), scale(run.values[second])];
  const every = Math.max(1, Math.floor(run.path.length / 2000));
  for (let row = 0; row < run.path.length; row += every) {
    svg.append(make("circle", {
      class: "dot", cx: 8 + across(run.values[first][row]) * (WIDE - 16), cy: WIDE - 20 - up(run.values[second][row]) * (WIDE - 30), r: 2.5,
      onclick: () => show(row),
    }, make("title", {}, run.path[row])));
  }
  svg.append(make("text", { x: WIDE / 2, y: WIDE - 4, "text-anchor": "middle" }, first), make("text", { x: 4, y: 12 }, second));
  return svg;
}
