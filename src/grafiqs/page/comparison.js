"use strict";
/* Several runs, side by side. */

const PAIRS = 100;
/* As many pairs of runs are listed. */

function comparisonPart() {
  const found = page.comparison;
  if (typeof found === "string") return section("comparison", "Comparison", make("p", {}, `The runs are not compared: ${found}`));
  const network = new Map(found.networks.flatMap((one) => one.runs.map((run) => [run, one.network])));
  return section("comparison", "Comparison",
    table("Runs", ["run", "network", "identities", "samples", "failed", "identity seed", "sample seed", "subset"], found.runs.map((run) => [
      run.run, String(network.get(run.run)), run.identities, run.samples, run.failed, run.identity_seed === null ? "-" : String(run.identity_seed), run.sample_seed === null ? "-" : String(run.sample_seed), run.subset_sha256.slice(0, 8)])),
    table("What each two share, and its share in what either has (Jaccard)", ["runs", "identities", "samples"], found.pairs.slice(0, PAIRS).map((pair) => [
      `${pair.first} and ${pair.second}`, `${said(pair.identities)} (${pair.identities_jaccard.toFixed(2)})`, `${said(pair.samples)} (${pair.samples_jaccard.toFixed(2)})`])),
    ...(found.pairs.length > PAIRS ? [make("p", { class: "note" }, `... and ${counted(found.pairs.length - PAIRS, "pair")} more: `, make("code", {}, "grafiqs compare"), " writes them all.")] : []),
    ...found.networks.flatMap((one) => networkPart(found, one)),
    ...(found.between_networks.length ? [table("Rank correlation (Spearman) between networks, on the samples of both", ["networks", "score", "correlation", "samples"],
      found.between_networks.map((row) => [`${row.first} and ${row.second}`, row.score, said(row.correlation), row.n]))] : []));
}

function networkPart(found, network) {
  const runs = page.runs.filter((run) => network.runs.includes(run.name));
  const scores = [...new Set(found.scores.filter((row) => network.runs.includes(row.run)).map((row) => row.score))].filter((score) => runs.some((run) => run.distributions[score]));
  const over = found.over_runs.filter((row) => row.network === network.network && row.statistic === "mean");
  const halves = new Map(over.map((row) => [row.score, row]));
  return [
    make("h3", {}, `Network ${network.network}: ${network.backbone}, weights ${network.weights_sha256.slice(0, 8)}, norms ${network.norms}`),
    make("div", { class: "plots" }, ...scores.map((score) => figure(outlines(score, runs), score))),
    legend(runs),
    ...overlap(found, network),
    table("Mean of each score, and over runs with its interval of 95 %", ["run", ...scores], [
      ...runs.map((run) => [run.name, ...scores.map((score) => said(found.scores.find((row) => row.run === run.name && row.score === score)?.mean))]),
      ...(runs.length > 1 ? [["over runs", ...scores.map((score) => (halves.has(score) ? mean(halves.get(score)) : "-"))]] : [])]),
  ];
}

/** What runs share makes their intervals too narrow. */
function overlap(found, network) {
  const pairs = found.pairs.filter((pair) => network.runs.includes(pair.first) && network.runs.includes(pair.second));
  const [samples, identities] = ["samples_jaccard", "identities_jaccard"].map((what) => largest(pairs.map((pair) => pair[what]), 0));
  if (!samples && !identities) return [];
  return [make("p", { class: "note" }, `Runs share up to ${percent(identities, 0)} of their identities and ${percent(samples, 0)} of their samples: they are not independent, and the intervals too narrow.`)];
}

/** A mean over runs with its interval of 95 %. */
function mean(row) {
  return row.ci_low === null || row.ci_low === undefined ? said(row.mean) : `${said(row.mean)} (${said(row.ci_low)} to ${said(row.ci_high)})`;
}

/** The distributions of a score in several runs, as shares, on one axis. */
function outlines(score, runs) {
  const own = runs.filter((run) => run.distributions[score]);
  const low = Math.min(...own.map((run) => run.distributions[score].low));
  const high = Math.max(...own.map((run) => run.distributions[score].high));
  const svg = drawing(`Distributions of ${score} in ${counted(own.length, "run")}, from ${said(low)} to ${said(high)}`, WIDE, HIGH);
  const outlined = own.map((run) => {
    const each = run.distributions[score];
    const total = each.counts.reduce((sum, count) => sum + count, each.beyond) || 1;
    const width = (each.high - each.low) / each.counts.length;
    return each.counts.map((count, place) => [each.low + (place + 0.5) * width, count / total / width]);
  });
  const most = largest(outlined.flat().map((point) => point[1]), 1e-12);
  runs.forEach((run, number) => {
    const points = outlined[own.indexOf(run)] ?? [];
    const path = points.map(([x, y], place) => `${place ? "L" : "M"}${(((x - low) / (high - low || 1)) * WIDE).toFixed(1)} ${(HIGH - 20 - (y / most) * (HIGH - 34)).toFixed(1)}`).join("");
    svg.append(make("path", { d: path, ...stroke(number) }, tip(run.name)));
  });
  svg.append(make("line", { class: "axis", x1: 0, x2: WIDE, y1: HIGH - 19.5, y2: HIGH - 19.5 }), make("text", { x: 2, y: HIGH - 4 }, said(low)), make("text", { x: WIDE - 2, y: HIGH - 4, "text-anchor": "end" }, said(high)));
  return svg;
}
