"use strict";
/* What an evaluation found: curves of errors against discards, areas, operating points. */

/** The target of a curve in words. */
function targetOf(row) {
  return row.fmr === null ? `starting error ${row.starting_error}` : `FMR ${row.fmr}`;
}

/** The rows of each target, by its words. */
function byTarget(rows) {
  const found = new Map();
  for (const row of rows) found.set(targetOf(row), [...(found.get(targetOf(row)) ?? []), row]);
  return found;
}

/** The evaluations in which a run was evaluated, each with what stands before the names of its scores there. */
function evaluationsOf(run) {
  const place = page.runs.indexOf(run);
  return page.evaluations.filter((one) => one.of[place] !== null).map((one) => ({ found: one, prefix: one.of[place] }));
}

/** What FNMR is left if comparisons of faces worse than a threshold are discarded, a sentence for each target. */
function errorsLeft(run, measure, limit) {
  const own = evaluationsOf(run);
  if (limit === null || !own.length) return [];
  if (measure.name !== measure.score) return ["What errors that leaves is known of scores alone, not of qualities: choose the score."];
  if (own.every(({ found }) => found.curves.every((curve) => curve.score_threshold === null))) return ["What errors that leaves is not known of the protocol rethreshold."];
  return own.flatMap(({ found, prefix }) => found.curves
    .filter((curve) => curve.quality === `${prefix}${measure.score}` && curve.score_threshold)
    .map((curve) => {
      const start = `At ${targetOf(curve)}${own.length > 1 ? ` in ${found.name}` : ""}, FNMR ${percent(curve.error_rate[0], 2)}`;
      const step = stepAt(curve, measure, limit);
      if (step === 0) return `${start} stays: no comparison is discarded.`;
      if (step < 0) return `${start}: no comparison is left.`;
      const about = curve.score_threshold[step] === limit ? "" : "about ";
      return `${start} becomes ${about}${percent(curve.error_rate[step], 2)}, as ${about}${percent(curve.discarded[step])} of the genuine comparisons are discarded.`;
    }));
}

/** The step of a curve that keeps what is not worse than a limit: the first of which the threshold is not worse; -1 if none. */
function stepAt(curve, measure, limit) {
  if (curve.worst !== null && !isBetter(measure, limit, curve.worst)) return 0;
  return curve.score_threshold.findIndex((threshold) => threshold !== null && !isBetter(measure, limit, threshold));
}

function evaluationPart(run) {
  const own = evaluationsOf(run);
  if (!own.length) return section("evaluation", "Evaluation", make("p", {}, "No evaluation of this run is on this page: ", make("code", {}, "grafiqs evaluate"), " makes one, and ", make("code", {}, "--evaluation"), " shows it here."));
  return section("evaluation", "Evaluation", ...own.flatMap(({ found }) => [
    make("p", {}, `${own.length > 1 ? `${found.name}: ` : ""}Comparisons: ${found.comparisons}. Equal error rate: ${percent(found.eer, 2)}.`),
    ...[...byTarget(found.curves)].flatMap(([words, curves]) => target(found, words, curves)),
  ]));
}

/** FNMR, at which score, and how much that discards. */
function pointOfTable(point, direction, drawn) {
  if (point.score_threshold === null || drawn) return percent(point.fnmr, 2);
  const less = point.discarded < point.discard - 0.001 ? `: ${percent(point.discarded, 2)}` : "";
  return `${percent(point.fnmr, 2)} (${direction === "higher" ? "<" : ">"}${said(point.score_threshold)}${less})`;
}

function decimals(value) {
  return value === null ? "-" : value.toFixed(3);
}

function target(found, words, curves) {
  const results = byTarget(found.results).get(words) ?? [];
  const points = byTarget(found.points).get(words) ?? [];
  const furthest = largest(results.map((row) => row.x_max));
  const last = results.filter((row) => row.x_max === furthest);
  const first = last[0];
  const drawn = curves.map((curve) => ({ name: curve.quality, x: curve.discarded, y: curve.error_rate, baseline: curve.quality === "random" }));
  const yMax = largest(curves.flatMap((curve) => curve.error_rate.filter((_, place) => curve.discarded[place] <= furthest)), 1e-9);
  const interval = (row) => (row.ci_low === null ? "-" : `${decimals(row.ci_low)} to ${decimals(row.ci_high)}`);
  const shares = [...new Set(points.map((point) => point.discard))];
  const pointOf = (name, share) => points.find((point) => point.quality === name && point.discard === share);
  return [
    make("h3", {}, words),
    make("p", {}, `FNMR ${percent(first.e0, 2)}${first.e0_low === null ? "" : ` (95 %: ${percent(first.e0_low)} to ${percent(first.e0_high)})`} of ${said(first.n_genuine)} genuine comparisons, FMR reached ${percent(first.fmr_reached, 3)} of ${said(first.n_impostor)} impostors; threshold ${said(first.threshold)}, ${first.protocol}.`),
    make("div", { class: "plots wide" },
      figure(make("div", {}, lines(`FNMR against the share of comparisons discarded, a line for each method, ${words}`, drawn, { xMax: furthest, yMax, xLabel: "share of genuine comparisons discarded", yLabel: "FNMR", steps: first.protocol === "fixed" }), legend(drawn)), "Error versus discard: a lower line is a better method"),
      table(`Area under the curve up to ${furthest}, relative to no gain (1): smaller is better`, ["method", "area", "95 %"],
        [...last].sort((one, other) => (one.pauc_normalised ?? Infinity) - (other.pauc_normalised ?? Infinity)).map((row) => [row.quality, decimals(row.pauc_normalised), interval(row)]))),
    table("FNMR left when this share of the genuine comparisons is discarded; in brackets the scores to discard, and the share that they come to, if equal scores make it less", ["method", ...shares.map((share) => percent(share, 0))],
      [...new Set(points.map((point) => point.quality))].map((name) => [name, ...shares.map((share) => {
        const point = pointOf(name, share);
        return point ? pointOfTable(point, found.directions[name], name === "random") : "-";
      })])),
  ];
}
