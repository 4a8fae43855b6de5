"use strict";
/* Identities: how many samples each has, and how good they are. */

const LISTED = 200;

class PeoplePart {
  constructor(run, viewer) {
    Object.assign(this, { run, viewer, by: "mean", up: false, listed: LISTED });
    this.measure = measureOf(run, run.main);
    this.place = make("div", {});
    this.root = section("people", "Identities",
      make("div", { class: "controls" }, choice("By", run.measures.map((one) => [one.name, one.label]), this.measure.name, (value) => { this.measure = measureOf(run, value); this.draw(); })),
      this.place);
    this.draw();
  }

  rows() {
    const { run, measure } = this;
    const own = run.identities.map(() => []);
    run.identity.forEach((identity, row) => own[identity].push(row));
    return run.identities.map((name, identity) => {
      const values = own[identity].map((row) => measure.values[row]);
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      const square = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      const order = [...own[identity]].sort((one, other) => (isBetter(measure, measure.values[one], measure.values[other]) ? -1 : 1));
      return { name: name || "(no name)", count: values.length, mean, spread: values.length > 1 ? Math.sqrt(square / (values.length - 1)) : null, best: order[0], worst: order.at(-1), own: order };
    });
  }

  draw() {
    const { run, measure } = this;
    const columns = [["name", "identity"], ["count", "samples"], ["mean", "mean"], ["spread", "standard deviation"]];
    const rows = this.rows().sort((one, other) => {
      const [a, b] = [one[this.by], other[this.by]];
      const way = typeof a === "string" || typeof b === "string" ? String(a).localeCompare(String(b)) : (a ?? -Infinity) - (b ?? -Infinity);
      return (this.up ? 1 : -1) * way;
    });
    const heads = columns.map(([key, words]) => make("th", { scope: "col", "aria-sort": this.by === key ? (this.up ? "ascending" : "descending") : null },
      make("button", { type: "button", "data-by": key, onclick: () => {
        this.up = this.by === key ? !this.up : key === "name";
        this.by = key;
        this.draw();
        this.place.querySelector(`[data-by="${key}"]`).focus();
      } }, words, this.by === key ? (this.up ? " ▲" : " ▼") : "")));
    const small = (one, row, words) => make("td", {}, make("button", { type: "button", class: "small", "aria-label": `${words} of ${one.name}: ${said(measure.values[row])}`, onclick: () => this.viewer.open(run, one.own, one.own.indexOf(row)) }, thumbnail(run, row, ""), said(measure.values[row])));
    this.place.replaceChildren(make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of identities" }, make("table", {},
      make("caption", {}, `${counted(rows.length, "identity")}, by ${measure.label}; a click on a heading sorts`),
      make("thead", {}, make("tr", {}, ...heads, make("th", { scope: "col" }, "best"), make("th", { scope: "col" }, "worst"))),
      make("tbody", {}, ...rows.slice(0, this.listed).map((one) => make("tr", {}, make("th", { scope: "row" }, one.name), make("td", {}, said(one.count)), make("td", {}, said(one.mean)), make("td", {}, said(one.spread)), small(one, one.best, "best"), small(one, one.worst, "worst")))))),
    ...(rows.length > this.listed ? [make("button", { type: "button", onclick: () => { this.listed *= 4; this.draw(); } }, `Show more (${(rows.length - this.listed).toLocaleString("en")} are not shown)`)] : []));
  }
}
