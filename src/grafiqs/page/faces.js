"use strict";
/* The gallery with what sorts and filters it, and the best and the worst at a glance. */

class FacesPart {
  constructor(run, viewer) {
    Object.assign(this, { run, viewer });
    this.sort = run.main;
    this.best = false;
    this.filters = { identity: "", lowest: "", highest: "", least: "", most: "" };
    this.gallery = new Gallery(run, (place) => viewer.open(run, this.gallery.rows, place, (left) => this.gallery.focus(left)));
    this.count = make("p", { class: "note", role: "status" });
    this.root = section("faces", "Faces", this.controls(), this.count, this.gallery.box);
    this.fill();
  }

  controls() {
    const { run } = this;
    const names = make("datalist", { id: "identities" }, ...run.identities.slice(0, 2000).map((name) => make("option", { value: name })));
    const field = (name, label, attributes) => {
      const input = make("input", { ...attributes, oninput: () => { this.filters[name] = input.value.trim(); this.fill(); } });
      return make("label", {}, label, input);
    };
    const number = { type: "number", step: "any", inputmode: "decimal" };
    const qualities = Object.keys(run.qualities).length > 0;
    return make("form", { class: "controls", onsubmit: (event) => event.preventDefault(), onreset: () => {
      for (const name of Object.keys(this.filters)) this.filters[name] = "";
      this.only = null;
      this.fill();
    } },
    choice("Sort by", run.measures.map((one) => [one.name, one.label]), this.sort, (value) => { this.sort = value; this.fill(); }),
    choice("Order", [["worst", "worst first"], ["best", "best first"]], "worst", (value) => { this.best = value === "best"; this.fill(); }),
    field("identity", "Identity has", { type: "search", list: "identities", autocomplete: "off" }), names,
    field("lowest", "Score from", number), field("highest", "Score to", number),
    ...(qualities ? [field("least", "Quality from", { ...number, min: 0, max: 100 }), field("most", "Quality to", { ...number, min: 0, max: 100 })] : []),
    make("button", { type: "reset" }, "Show all"));
  }

  /** Show these rows alone, until all are shown again. */
  restrict(rows, words) {
    this.only = { rows: new Set(rows), words };
    this.fill();
    this.root.scrollIntoView();
  }

  fill() {
    const { run, filters } = this;
    const measure = measureOf(run, this.sort);
    const scores = run.values[measure.score];
    const qualities = run.qualities[measure.score];
    const wanted = filters.identity.toLowerCase();
    const inside = (value, low, high) => (low === "" || value >= Number(low)) && (high === "" || value <= Number(high));
    const order = this.best ? [...worstFirst(measure)].reverse() : worstFirst(measure);
    const rows = order.filter((row) => (!this.only || this.only.rows.has(row))
      && (!wanted || run.identities[run.identity[row]].toLowerCase().includes(wanted))
      && inside(scores[row], filters.lowest, filters.highest)
      && (!qualities || inside(qualities[row], filters.least, filters.most)));
    this.gallery.fill(rows, measure);
    const failed = run.failed ? ` ${counted(run.failed, "image")} without a score: see Missing.` : "";
    this.count.textContent = `${counted(rows.length, "face")} of ${run.path.length.toLocaleString("en")}${this.only ? `, ${this.only.words}` : ""}, ${this.best ? "best" : "worst"} first by ${measure.label}.${failed}`;
  }
}

/** The best and the worst faces by the main score, side by side. */
function glance(run, viewer) {
  const measure = measureOf(run, run.main);
  const order = worstFirst(measure);
  const count = Math.min(8, Math.floor(order.length / 2));
  const row = (title, rows) => make("div", { class: "glance" }, make("h3", {}, title), make("div", { class: "strip" },
    ...rows.map((one, place) => make("button", { type: "button", "aria-label": `${run.path[one]}: ${measure.label} ${said(measure.values[one])}`, onclick: () => viewer.open(run, rows, place) },
      thumbnail(run, one, ""), make("span", { class: "value" }, said(measure.values[one]))))));
  return count ? [row(`Best by ${measure.label}`, order.slice(-count).reverse()), row(`Worst by ${measure.label}`, order.slice(0, count))] : [];
}
