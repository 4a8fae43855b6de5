"use strict";
/* The page: its parts for the run that is chosen. */

/** What the run is, and the command that makes it again. */
function cardPart(run) {
  const told = make("span", { class: "note", role: "status" });
  const text = make("code", {}, run.command);
  const copy = make("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(run.command);
      told.textContent = "Copied.";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(text);
      document.getSelection().removeAllRanges();
      document.getSelection().addRange(range);
      told.textContent = document.execCommand("copy") ? "Copied." : "Selected: copy it with Ctrl-C.";
    }
  } }, "Copy");
  return section("card", `The run ${printable(run.name)}`,
    make("dl", { class: "card" }, ...run.card.flatMap(([term, words]) => [make("dt", {}, term), make("dd", {}, words)])),
    make("h3", {}, "Run it again"), make("pre", { tabindex: "0", role: "region", "aria-label": "The command that makes this run again" }, text), ...run.notes.map((line) => make("p", { class: "note" }, line)), make("p", {}, copy, " ", told));
}

/** How many samples identities have; nothing to draw if all have the same. */
function sizesOf(run) {
  const total = run.sizes.reduce((sum, [, identities]) => sum + identities, 0);
  if (run.sizes.length < 2) return make("p", {}, run.sizes.length ? `${total === 1 ? "The one identity" : `Each of ${counted(total, "identity")}`} has ${counted(run.sizes[0][0], "sample")}.` : "The subset is empty.");
  const [low, high] = [run.sizes[0][0], run.sizes.at(-1)[0] + 1];
  const counts = new Array(Math.min(40, high - low)).fill(0);
  for (const [samples, identities] of run.sizes) counts[Math.floor(((samples - low) / (high - low)) * counts.length)] += identities;
  return make("div", { class: "plots" }, figure(bars("Samples an identity has, and how many identities have so many", counts, low, high), make("strong", {}, "samples per identity"), " of the subset"));
}

function scoresPart(run) {
  const qualities = Object.keys(run.qualities);
  return section("scores", "Scores", make("p", {}, run.better),
    make("div", { class: "plots" }, ...run.scores.map((score) => figure(histogram(run, score), make("strong", {}, score), run.layer === score ? ", the layer that counts" : ""))),
    ...(qualities.length ? [make("details", {}, make("summary", {}, "Qualities"), make("div", { class: "plots" }, ...qualities.map((score) => figure(qualityHistogram(run, score), make("strong", {}, `quality by ${score}`)))))] : []),
    sizesOf(run));
}

function layersPart(run, viewer) {
  let [first, second] = [run.measures[0], run.measures[Math.min(1, run.measures.length - 1)]];
  const place = make("div", { class: "scatter" });
  const open = (row) => viewer.open(run, worstFirst(second), worstFirst(second).indexOf(row));
  const draw = () => place.replaceChildren(figure(scatter(run, first, second, open), `${run.path.length > POINTS ? `${POINTS.toLocaleString("en")} of ${run.path.length.toLocaleString("en")} faces, evenly over the ranking of ${second.label}` : "Each point is a face"}; a click shows the nearest one, arrow keys and Enter any. The axes end where 99.5 % of the faces lie; those beyond lie on the border.`));
  const pairs = run.measures.map((one) => [one.name, one.label]);
  draw();
  return section("layers", "Layer against layer", make("div", { class: "controls" },
    choice("Across", pairs, first.name, (value) => { first = measureOf(run, value); draw(); }),
    choice("Up", pairs, second.name, (value) => { second = measureOf(run, value); draw(); })), place);
}

function missingPart(run) {
  const more = (listed, total) => (total > listed ? [make("p", {}, `... and ${(total - listed).toLocaleString("en")} more`)] : []);
  return section("missing", "Missing",
    run.failed ? table(`${counted(run.failed, "image")} without a score`, ["image", "reason"], run.failures) : make("p", {}, "Every image of the subset has a score."),
    ...more(run.failures.length, run.failed),
    run.insufficient ? table(`${counted(run.insufficient, "identity")} dropped, with fewer than ${counted(run.wanted ?? 1, "sample")}`, ["identity", "samples"], run.dropped) : make("p", {}, "No identity was dropped."),
    ...more(run.dropped.length, run.insufficient));
}

/** Make of a run what its parts use: names that print, beside those that are `written` to files; and its measures. */
function prepare(run) {
  if (run.measures) return;
  run.written = { path: run.path, identities: run.identities };
  run.path = run.path.map(printable);
  run.identities = run.identities.map(printable);
  run.measures = measuresOf(run);
}

/** A part of the page; if it cannot be drawn, the others are there all the same, and the error is in the console. */
function attempt(words, build) {
  try {
    return build();
  } catch (error) {
    setTimeout(() => { throw error; });
    return make("section", {}, make("p", { class: "notice", role: "alert" }, `The part ${words} cannot be drawn: ${error.message}`));
  }
}

/** The parts of the page for a run. */
function show(run, viewer) {
  prepare(run);
  const own = [];
  const add = (words, build) => own.push([words, attempt(words, build)]);
  if (run.path.length > 1) add("Best and worst", () => make("section", { id: "ends", "aria-label": "The best and the worst faces" }, ...glance(run, viewer)));
  add("The run", () => cardPart(run));
  if (run.path.length) {
    let faces = null;
    add("Scores", () => scoresPart(run));
    add("Faces", () => { faces = new FacesPart(run, viewer); return faces.root; });
    add("Threshold", () => new ThresholdPart(run, (...what) => faces?.restrict(...what)).root);
    add("Identities", () => new PeoplePart(run, viewer).root);
    add("Layers", () => layersPart(run, viewer));
  } else own.push(["", make("p", { class: "answer" }, "No image of this run has a score.")]);
  add("Evaluation", () => evaluationPart(run));
  add("Missing", () => missingPart(run));
  if (page.comparison) add("Comparison", comparisonPart);
  document.getElementById("page").replaceChildren(...run.said.map((line) => make("p", { class: "notice", role: "note" }, line)), ...own.map(([, part]) => part));
  document.getElementById("parts").replaceChildren(...own.filter(([words]) => words).map(([words, part]) => make("a", { href: `#${part.id}` }, words)));
}

(() => {
  const viewer = new Viewer();
  const chosen = document.getElementById("chosen");
  for (const run of page.runs) prepare(run);
  const pictures = page.runs.some((run) => Object.keys(run.faces).length);
  if (pictures) chosen.append(make("p", { class: "notice personal", role: "note" }, "This page holds pictures of faces. Those of real people are personal data: mind whom you give it to (", make("code", {}, "--no-faces"), " leaves them out)."));
  if (page.runs.length > 1) {
    chosen.append(make("div", { class: "controls" }, choice("Run", page.runs.map((run, place) => [String(place), run.name]), "0", (place) => show(page.runs[Number(place)], viewer))));
  }
  show(page.runs[0], viewer);
})();
