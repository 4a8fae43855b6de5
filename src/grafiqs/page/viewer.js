"use strict";
/* One face, large: its scores, its standing, and where on it the gradients are. */

class Viewer {
  constructor() {
    this.dialog = document.getElementById("viewer");
    this.strength = 0.8;
    this.layer = null;
    this.left = () => {};
    this.dialog.addEventListener("keydown", (event) => {
      if (event.target.matches("input, select") || event.altKey || event.ctrlKey || event.metaKey) return;
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.step(by);
    });
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
    this.dialog.addEventListener("close", () => this.left(this.place));
  }

  /** Show the face at a place of a list of rows; `left` is told at which place it was closed. */
  open(run, rows, place, left = () => {}) {
    Object.assign(this, { run, rows, place, left });
    this.draw();
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.querySelector("[data-step='1']").focus();
  }

  step(by) {
    const place = Math.min(this.rows.length - 1, Math.max(0, this.place + by));
    if (place === this.place) return;
    this.place = place;
    this.draw();
  }

  draw() {
    const { run, dialog } = this;
    const row = this.rows[this.place];
    const held = dialog.contains(document.activeElement) ? document.activeElement.dataset : {};
    const layers = run.maps[row] ? Object.keys(run.sizes_of_maps) : [];
    if (this.layer !== "" && !layers.includes(this.layer)) this.layer = layers[0] ?? null;
    const [high, wide] = run.crop;
    const stack = make("div", { class: "stack", style: `aspect-ratio: ${wide} / ${high}` }, thumbnail(run, row, `The face ${run.path[row]}`));
    if (run.faces[row] === undefined) stack.append(make("p", { class: "missing" }, "This page has no picture of this face."));
    if (this.layer && layers.includes(this.layer)) stack.append(this.heat(row, this.layer));
    dialog.replaceChildren(
      make("div", { class: "bar-of-viewer" },
        make("button", { type: "button", "data-step": "-1", onclick: () => this.step(-1), disabled: this.place === 0 }, "← before"),
        make("span", {}, `${(this.place + 1).toLocaleString("en")} of ${this.rows.length.toLocaleString("en")}`),
        make("button", { type: "button", "data-step": "1", onclick: () => this.step(1), disabled: this.place === this.rows.length - 1 }, "next →"),
        make("button", { type: "button", class: "close", "data-step": "0", onclick: () => dialog.close() }, "Close")),
      make("h2", { id: "viewer-title" }, run.path[row]),
      make("div", { class: "large" }, make("div", {}, stack, ...this.heatControls(row, layers, stack)), this.table(row)));
    const again = dialog.querySelector(`[data-step="${held.step}"]:not(:disabled), [data-layer="${held.layer}"]`);
    (again ?? dialog.querySelector(".close")).focus();
  }

  heatControls(row, layers, stack) {
    if (!layers.length) return [make("p", { class: "note" }, Object.keys(this.run.sizes_of_maps).length ? "This page has no heat maps of this face." : "There are no heat maps on this page.")];
    const button = (layer, words) => make("button", {
      type: "button", class: "map", "data-layer": layer, "aria-pressed": String(layer === (this.layer ?? "")),
      onclick: () => { this.layer = layer; this.draw(); },
    }, make("span", { class: "stack", style: stack.getAttribute("style") }, thumbnail(this.run, row, ""), layer ? this.heat(row, layer) : null), words);
    const strength = make("input", {
      type: "range", min: 0, max: 1, step: 0.05, value: this.strength,
      oninput: () => {
        this.strength = Number(strength.value);
        for (const canvas of this.dialog.querySelectorAll("canvas")) canvas.style.opacity = this.strength;
      },
    });
    return [
      make("div", { class: "maps", role: "group", "aria-label": "Heat map of the gradient's magnitude at" }, button("", "none"), ...layers.map((layer) => button(layer, layer))),
      make("label", {}, "Strength of the heat map", strength),
      make("p", { class: "note" }, make("span", { class: "scale", "aria-hidden": "true", style: `background: linear-gradient(90deg, ${page.colours.filter((_, place) => place % 51 === 0).map((rgb) => `rgb(${rgb})`).join(", ")})` }),
        "from nothing to the largest magnitude of this face and layer (square root): where the network would have to change the most"),
    ];
  }

  table(row) {
    const { run } = this;
    const rows = run.scores.map((score) => {
      const measure = measureOf(run, score);
      return [score, said(measure.values[row]), percent(standing(measure, row), 0), said(run.qualities[score]?.[row])];
    });
    return make("div", {}, make("p", {}, "Identity: ", make("strong", {}, run.identities[run.identity[row]] || "(no name)")),
      table("Scores of this face", ["", "score", "better than", "quality"], rows),
      make("p", { class: "note" }, `Better than: the share of the other faces here that have a worse score. ${run.better}`));
  }

  /** A map as colours to lie over the face; the browser interpolates it. */
  heat(row, layer) {
    const [high, wide] = this.run.sizes_of_maps[layer];
    const levels = atob(this.run.maps[row][Object.keys(this.run.sizes_of_maps).indexOf(layer)]);
    const canvas = make("canvas", { width: wide, height: high, "aria-hidden": "true", style: `opacity:${this.strength}` });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(wide, high);
    for (let place = 0; place < levels.length; place += 1) {
      const level = levels.charCodeAt(place);
      pixels.data.set([...page.colours[level], level], 4 * place);
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }
}
