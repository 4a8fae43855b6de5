"use strict";
/* One face, large: its scores, its standing, and where on it the gradients are. */

class Viewer {
  constructor() {
    Object.assign(this, { dialog: document.getElementById("viewer"), strength: 0.6, layer: null, left: () => {} });
    this.status = make("p", { class: "note", role: "status" });
    this.inside = make("div", {});
    this.dialog.append(this.status, this.inside);
    this.dialog.addEventListener("keydown", (event) => {
      if (event.target.closest("input, select, .scroll") || event.altKey || event.ctrlKey || event.metaKey) return;
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.step(by);
    });
    let outside = false;
    this.dialog.addEventListener("pointerdown", (event) => { outside = this.isOutside(event); });
    this.dialog.addEventListener("click", (event) => { if (outside && this.isOutside(event)) this.dialog.close(); });
    this.dialog.addEventListener("close", () => this.left(this.place));
  }

  isOutside(event) {
    const box = this.dialog.getBoundingClientRect();
    return event.target === this.dialog && (event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom);
  }

  /** Show the face at a place of a list of rows; `left` is told at which place it was closed. */
  open(run, rows, place, left = () => {}) {
    Object.assign(this, { run, rows, place, left });
    this.draw();
    if (!this.dialog.open) this.dialog.showModal();
    (this.dialog.querySelector("[data-step='1']:not(:disabled)") ?? this.dialog.querySelector(".close")).focus();
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
    const stack = this.stack(row, layers.includes(this.layer) ? this.layer : null, true);
    if (run.faces[row] === undefined) stack.append(make("p", { class: "missing" }, "This page has no picture of this face."));
    this.status.textContent = `${(this.place + 1).toLocaleString("en")} of ${this.rows.length.toLocaleString("en")}: ${run.path[row]}`;
    this.inside.replaceChildren(
      make("div", { class: "bar-of-viewer" },
        make("button", { type: "button", "data-step": "-1", onclick: () => this.step(-1), disabled: this.place === 0 }, "← previous"),
        make("button", { type: "button", "data-step": "1", onclick: () => this.step(1), disabled: this.place === this.rows.length - 1 }, "next →"),
        make("button", { type: "button", class: "close", "data-step": "0", onclick: () => dialog.close() }, "Close")),
      make("h2", { id: "viewer-title" }, run.path[row]),
      make("div", { class: "large" }, make("div", {}, stack, ...this.heatControls(row, layers)), this.table(row)));
    const again = dialog.querySelector(`[data-step="${held.step}"]:not(:disabled), [data-layer="${held.layer}"]`);
    (again ?? dialog.querySelector(".close")).focus();
  }

  /** A face with its map at a layer, if there is one; `named` if it has words of its own. */
  stack(row, layer, named) {
    const { run } = this;
    const [high, wide] = run.crop;
    const parts = [thumbnail(run, row, named ? `The face ${run.path[row]}` : ""), layer ? this.heat(row, layer, named) : null];
    return make("span", { class: `stack${layer ? " mapped" : ""}`, style: `aspect-ratio: ${wide} / ${high}` }, ...parts);
  }

  heatControls(row, layers) {
    if (!layers.length) return [make("p", { class: "note" }, Object.keys(this.run.sizes_of_maps).length ? "This page has no heat maps of this face." : "There are no heat maps on this page.")];
    const button = (layer) => make("button", {
      type: "button", class: "map", "data-layer": layer, "aria-pressed": String(layer === (this.layer ?? "")), onclick: () => { this.layer = layer; this.draw(); },
    }, this.stack(row, layer, false), layer || "none");
    const strength = make("input", {
      type: "range", min: 0, max: 1, step: 0.05, value: this.strength,
      oninput: () => {
        this.strength = Number(strength.value);
        for (const canvas of this.dialog.querySelectorAll("canvas")) canvas.style.opacity = this.strength;
      },
    });
    const colours = page.colours.filter((_, place) => place % 51 === 0).map((rgb) => `rgb(${rgb})`);
    return [
      make("div", { class: "maps", role: "group", "aria-label": "Heat map of the gradient's magnitude at" }, button(""), ...layers.map(button)),
      make("label", {}, "Strength of the heat map", strength),
      make("p", { class: "note" }, make("span", { class: "scale", "aria-hidden": "true", style: `background: linear-gradient(90deg, ${colours.join(", ")})` }),
        "from nothing to the largest magnitude of this face and layer (square root), over the face in grey: where the network would have to change the most"),
    ];
  }

  table(row) {
    const { run } = this;
    const rows = run.scores.map((score) => {
      const measure = measureOf(run, score);
      return [score, said(measure.values[row]), percent(standing(measure, row)), said(run.qualities[score]?.[row])];
    });
    return make("div", {}, make("p", {}, "Identity: ", make("strong", {}, run.identities[run.identity[row]] || "(no name)")),
      table("Scores of this face", ["measured at", "score", "better than", "quality"], rows),
      make("p", { class: "note" }, `Better than: the share of the other faces here that have a worse score; equal ones count half. ${run.better}`));
  }

  /** A map in colours, to lie over the face; the browser interpolates it. */
  heat(row, layer, named) {
    const [high, wide] = this.run.sizes_of_maps[layer];
    const levels = atob(this.run.maps[row][Object.keys(this.run.sizes_of_maps).indexOf(layer)]);
    const canvas = make("canvas", { width: wide, height: high, style: `opacity:${this.strength}` });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(wide, high);
    let strongest = 0;
    for (let place = 0; place < levels.length; place += 1) {
      const level = levels.charCodeAt(place);
      if (level > levels.charCodeAt(strongest)) strongest = place;
      pixels.data.set([...page.colours[level], 255], 4 * place);
    }
    context.putImageData(pixels, 0, 0);
    const [across, down] = [((strongest % wide) + 0.5) / wide, (Math.floor(strongest / wide) + 0.5) / high];
    const words = `Heat map of ${layer}: the largest magnitude is ${percent(across, 0)} from the left and ${percent(down, 0)} from the top`;
    for (const [name, value] of Object.entries(named ? { role: "img", "aria-label": words } : { "aria-hidden": "true" })) canvas.setAttribute(name, value);
    return canvas;
  }
}
