"use strict";
/* The gallery with what sorts and filters it, and the best and the worst at a glance. */

const NO_FILTER = { identity: "", lowest: "", highest: "", least: "", most: "" };

class FacesPart {
  constructor(run, viewer) {
    Object.assign(this, { run, sort: run.main, best: false, filters: { ...NO_FILTER }, wrong: new Set(), only: null });
    this.gallery = new Gallery(run, (place) => viewer.open(run, this.gallery.rows, place, (left) => this.gallery.focus(left)));
    this.count = make("p", { class: "note", role: "status" });
    this.form = this.controls();
    this.root = section("faces", "Faces", this.form, this.count, this.gallery.box);
    this.fill();
  }

  controls() {
    const { run } = this;
    const names = make("datalist", { id: "identities" }, ...run.identities.slice(0, 2000).map((name) => make("option", { value: name })));
    const field = (name, label, attributes) => {
      const words = make("span", {}, label);
      const input = make("input", { ...attributes, oninput: () => {
        this.filters[name] = input.value.trim();
        this.wrong[input.validity.badInput ? "add" : "delete"](words);
        this.fill();
      } });
      return make("label", {}, words, input);
    };
    const number = { type: "number", step: "any", inputmode: "decimal" };
    this.bounds = [field("lowest", "", number), field("highest", "", number)];
    const qualities = Object.keys(run.qualities).length > 0;
    return make("form", { class: "controls", onsubmit: (event) => event.preventDefault(), onreset: () => this.reset() },
      choice("Sort by", run.measures.map((one) => [one.name, one.label]), this.sort, (value) => { this.sort = value; this.fill(); }),
      choice("Order", [["worst", "worst first"], ["best", "best first"]], "worst", (value) => { this.best = value === "best"; this.fill(); }),
      field("identity", "Identity has", { type: "search", list: "identities", autocomplete: "off" }), names, ...this.bounds,
      ...(qualities ? [field("least", "Quality from", { ...number, min: 0, max: 100 }), field("most", "Quality to", { ...number, min: 0, max: 100 })] : []),
      make("button", { type: "reset" }, "Show all"));
  }

  /** As it was at first; the form sets its own fields. */
  reset() {
    Object.assign(this, { sort: this.run.main, best: false, filters: { ...NO_FILTER }, wrong: new Set(), only: null });
    this.fill();
  }

  /** Show these rows alone, until all are shown again. */
  restrict(rows, measure, words) {
    this.form.reset();
    this.only = { rows: new Set(rows), words };
    this.sort = measure.name;
    this.form.querySelector("select").value = measure.name;
    this.fill();
    this.root.scrollIntoView();
    this.gallery.box.focus({ preventScroll: true });
  }

  fill() {
    const { run, filters } = this;
    const measure = measureOf(run, this.sort);
    this.bounds.forEach((label, place) => { label.firstChild.textContent = `${measure.score} ${place ? "to" : "from"}`; });
    const scores = run.values[measure.score];
    const qualities = run.qualities[measure.score];
    const wanted = filters.identity.normalize("NFC").toLowerCase();
    const inside = (value, low, high) => (low === "" || value >= Number(low)) && (high === "" || value <= Number(high));
    const order = this.best ? [...worstFirst(measure)].reverse() : worstFirst(measure);
    const rows = order.filter((row) => (!this.only || this.only.rows.has(row))
      && (!wanted || run.identities[run.identity[row]].normalize("NFC").toLowerCase().includes(wanted))
      && inside(scores[row], filters.lowest, filters.highest)
      && (!qualities || inside(qualities[row], filters.least, filters.most)));
    this.gallery.fill(rows, measure);
    this.count.textContent = [
      `${counted(rows.length, "face")} of ${run.path.length.toLocaleString("en")}${this.only ? `, ${this.only.words}` : ""}, ${this.best ? "best" : "worst"} first by ${measure.label}.`,
      ...[...this.wrong].map((words) => `${words.textContent}: that is not a number, and counts as none.`),
      run.failed ? `${counted(run.failed, "image")} without a score: see Missing.` : "",
    ].join(" ").trim();
  }
}

/** The best and the worst faces by the main score, side by side; nothing of a single face. */
function glance(run, viewer) {
  const measure = measureOf(run, run.main);
  const order = worstFirst(measure);
  const count = Math.min(8, Math.floor(order.length / 2));
  const part = (title, rows) => make("div", { class: "glance" }, make("h2", {}, title), make("div", { class: "strip" },
    ...rows.map((row, place) => make("button", { type: "button", "aria-label": `${said(measure.values[row])}: ${run.path[row]}`, onclick: () => viewer.open(run, rows, place) },
      thumbnail(run, row, ""), make("span", { class: "value" }, said(measure.values[row]))))));
  return count ? [part(`Best by ${measure.label}`, order.slice(-count).reverse()), part(`Worst by ${measure.label}`, order.slice(0, count))] : [];
}
