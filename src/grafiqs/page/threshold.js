"use strict";
/* A threshold: who falls below it, and what is left. */

const SHARES = 1000;

class ThresholdPart {
  /** `restrict` shows rows in the gallery. */
  constructor(run, restrict) {
    Object.assign(this, { run, restrict, measure: measureOf(run, run.main), limit: null, fewest: run.wanted ?? 2 });
    this.share = make("span", {}, "Share discarded");
    this.slider = make("input", { type: "range", min: 0, max: SHARES, step: 1, value: SHARES / 20, oninput: () => this.slide() });
    this.number = make("input", { type: "number", step: "any", oninput: () => { this.limit = this.number.value === "" ? null : Number(this.number.value); this.draw(); this.follow(); } });
    const least = make("input", { type: "number", min: 1, step: 1, value: this.fewest, oninput: () => { this.fewest = Math.max(1, Math.floor(Number(least.value)) || 1); this.draw(); } });
    this.plot = make("div", { class: "plots" });
    this.words = make("div", { role: "status" });
    this.root = section("threshold", "Threshold", make("p", {}, "What is left if faces that are worse than a threshold are discarded, or taken again."),
      make("div", { class: "controls" },
        choice("By", run.measures.map((one) => [one.name, one.label]), this.measure.name, (value) => { this.measure = measureOf(run, value); this.slide(); }),
        make("label", {}, this.share, this.slider), make("label", {}, "Threshold", this.number), make("label", {}, "Samples an identity needs", least),
        make("button", { type: "button", onclick: () => this.save() }, "Save the list as CSV"),
        make("button", { type: "button", onclick: () => this.limit !== null && this.restrict(this.below(), this.measure, `worse than ${said(this.limit)} by ${this.measure.label}`) }, "Show them")),
      this.words, this.plot);
    this.slide();
  }

  /** Set the threshold at the share that the slider says. */
  slide() {
    const order = worstFirst(this.measure);
    const place = Math.round((Number(this.slider.value) / SHARES) * order.length);
    this.limit = order.length ? this.measure.values[order[Math.min(place, order.length - 1)]] : null;
    this.number.value = this.limit ?? "";
    this.draw();
  }

  /** Set the slider at the share that the threshold discards. */
  follow() {
    this.slider.value = Math.round((SHARES * this.below().length) / Math.max(1, this.run.path.length));
  }

  /** The rows that are worse than the threshold, the worst first. */
  below() {
    if (this.limit === null) return [];
    return worstFirst(this.measure).filter((row) => isBetter(this.measure, this.limit, this.measure.values[row]));
  }

  draw() {
    const { run, measure, fewest } = this;
    if (this.limit === null) {
      this.words.replaceChildren(make("p", { class: "answer" }, "Give a threshold, a number."));
      this.plot.replaceChildren();
      return;
    }
    const below = this.below();
    const left = new Array(run.identities.length).fill(0);
    for (const identity of run.identity) left[identity] += 1;
    const had = [...left];
    for (const row of below) left[run.identity[row]] -= 1;
    const lost = left.map((_, place) => place).filter((place) => left[place] < fewest && had[place] >= fewest);
    const before = had.filter((count) => count < fewest).length;
    const names = lost.slice(0, 100).map((place) => `${run.identities[place] || "(no name)"} (${left[place]} of ${had[place]})`);
    const share = percent(run.path.length ? below.length / run.path.length : 0);
    this.share.textContent = `Share discarded: ${share}`;
    this.slider.setAttribute("aria-valuetext", share);
    this.words.replaceChildren(
      make("p", { class: "answer" }, make("strong", {}, counted(below.length, "face")), ` of ${run.path.length.toLocaleString("en")} (${share}) ${below.length === 1 ? "is" : "are"} worse than ${said(this.limit)} by ${measure.label}. `,
        make("strong", {}, `${counted(lost.length, "identity")} of ${run.identities.length.toLocaleString("en")}`), ` ${lost.length === 1 ? "falls" : "fall"} below ${counted(fewest, "sample")}`,
        before ? `; ${before.toLocaleString("en")} ${before === 1 ? "has" : "have"} fewer from the start.` : "."),
      ...errorsLeft(run, measure, this.limit).map((line) => make("p", { class: "answer" }, line)),
      ...(lost.length ? [make("details", {}, make("summary", {}, "Which identities"), make("p", {}, names.join(", "), lost.length > names.length ? `, and ${(lost.length - names.length).toLocaleString("en")} more` : ""))] : []));
    this.plot.replaceChildren(measure.name === measure.score ? figure(histogram(run, measure.score, this.limit), `${measure.label}: the line is the threshold, hollow bars are worse`) : "");
  }

  save() {
    const { run, measure } = this;
    const qualities = Object.keys(run.qualities);
    const counts = qualities.includes(run.layer) ? [run.layer] : [];  // what `quality` alone means
    const head = ["identity", "path", ...run.scores, ...qualities.map((score) => `quality_${score}`), ...counts.map(() => "quality")];
    const columns = [...run.scores.map((score) => run.values[score]), ...[...qualities, ...counts].map((score) => run.qualities[score])];
    const rows = this.below().map((row) => [run.written.identities[run.identity[row]], run.written.path[row], ...columns.map((values) => values[row])]);
    saveCsv(`below_${measure.name}.csv`, [head, ...rows]);
  }
}
