"use strict";
/* A threshold: who falls below it, and what is left. */

class ThresholdPart {
  /** `restrict` shows rows in the gallery. */
  constructor(run, restrict) {
    Object.assign(this, { run, restrict });
    this.measure = measureOf(run, run.main);
    this.limit = null;
    this.fewest = run.wanted ?? 2;
    this.slider = make("input", { type: "range", min: 0, max: 1000, step: 1, value: 50, oninput: () => this.slide() });
    this.number = make("input", { type: "number", step: "any", onchange: () => { this.limit = this.number.value === "" ? null : Number(this.number.value); this.draw(); } });
    const least = make("input", { type: "number", min: 1, step: 1, value: this.fewest, oninput: () => { this.fewest = Math.max(1, Number(least.value) || 1); this.draw(); } });
    this.plot = make("div", { class: "plots" });
    this.words = make("div", { role: "status" });
    this.root = section("threshold", "Threshold", make("p", {}, "What is left if faces that are worse than a threshold are discarded, or taken again."),
      make("div", { class: "controls" },
        choice("By", run.measures.map((one) => [one.name, one.label]), this.measure.name, (value) => { this.measure = measureOf(run, value); this.slide(); }),
        make("label", {}, "Share discarded", this.slider), make("label", {}, "Threshold", this.number), make("label", {}, "Samples an identity needs", least),
        make("button", { type: "button", onclick: () => this.save() }, "Save the list as CSV"),
        make("button", { type: "button", onclick: () => this.restrict(this.below(), `worse than ${said(this.limit)} by ${this.measure.label}`) }, "Show them")),
      this.words, this.plot);
    this.slide();
  }

  /** Set the threshold at the share that the slider says. */
  slide() {
    const order = worstFirst(this.measure);
    const place = Math.round((Number(this.slider.value) / 1000) * order.length);
    this.limit = order.length ? this.measure.values[order[Math.min(place, order.length - 1)]] : null;
    this.number.value = this.limit ?? "";
    this.draw();
  }

  /** The rows that are worse than the threshold, the worst first. */
  below() {
    if (this.limit === null) return [];
    return worstFirst(this.measure).filter((row) => isBetter(this.measure, this.limit, this.measure.values[row]));
  }

  draw() {
    const { run, measure } = this;
    const below = this.below();
    const left = new Array(run.identities.length).fill(0);
    const had = new Array(run.identities.length).fill(0);
    for (const identity of run.identity) { left[identity] += 1; had[identity] += 1; }
    for (const row of below) left[run.identity[row]] -= 1;
    const lost = run.identities.map((_, place) => place).filter((place) => left[place] < this.fewest && had[place] >= this.fewest);
    const names = lost.slice(0, 100).map((place) => `${run.identities[place] || "(no name)"} (${left[place]} of ${had[place]})`);
    const share = run.path.length ? below.length / run.path.length : 0;
    this.words.replaceChildren(
      make("p", { class: "answer" }, make("strong", {}, counted(below.length, "face")), ` of ${run.path.length.toLocaleString("en")} (${percent(share)}) ${below.length === 1 ? "is" : "are"} worse than ${said(this.limit)} by ${measure.label}. `,
        make("strong", {}, `${counted(lost.length, "identity")} of ${run.identities.length.toLocaleString("en")}`), ` ${lost.length === 1 ? "falls" : "fall"} below ${counted(this.fewest, "sample")}.`),
      ...errorsLeft(run, measure, this.limit).map((line) => make("p", { class: "answer" }, line)),
      ...(lost.length ? [make("details", {}, make("summary", {}, "Which identities"), make("p", {}, names.join(", "), lost.length > names.length ? `, and ${(lost.length - names.length).toLocaleString("en")} more` : ""))] : []));
    this.plot.replaceChildren(measure.name === measure.score ? figure(histogram(run, measure.score, this.limit), `${measure.label}; what is worse than the threshold is orange`) : "");
  }

  save() {
    const { run, measure } = this;
    const qualities = Object.keys(run.qualities);
    const head = ["identity", "path", ...run.scores, ...qualities.map((score) => `quality_${score}`)];
    const rows = this.below().map((row) => [run.identities[run.identity[row]], run.path[row], ...run.scores.map((score) => run.values[score][row]), ...qualities.map((score) => run.qualities[score][row])]);
    saveCsv(`below_${measure.name}.csv`, [head, ...rows]);
  }
}
