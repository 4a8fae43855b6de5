"use strict";
/* One face, large: its scores, its standing, and where on it the gradients are. */

class Viewer {
  constructor() {
    this.dialog = document.getElementById("viewer");
    this.strength = 0.7;
    this.layer = null;
    this.dialog.addEventListener("keydown", (event) => {
      if (event.target.matches("input, select")) return;
      if (event.key === "ArrowRight") this.step(1);
      else if (event.key === "ArrowLeft") this.step(-1);
      else return;
      event.preventDefault();
    });
  }

  /** Show the face at a place of a list of rows. */
  open(run, rows, place) {
    Object.assign(this, { run, rows, place });
    this.layer ??= Object.keys(run.maps)[0] ?? null;
    this.draw();
    if (!this.dialog.open) this.dialog.showModal();
  }

  step(by) {
    this.place = Math.min(this.rows.length - 1, Math.max(0, this.place + by));
    this.draw();
  }

  draw() {
    const { run } = this;
    const row = this.rows[this.place];
    const maps = Object.keys(run.maps).filter((layer) => run.maps[layer][row]);
    const stack = make("div", { class: "stack" });
    const face = run.faces[row];
    if (face) stack.append(make("img", { src: `data:image/jpeg;base64,${face}`, alt: `The face of ${run.path[row]}` }));
    else stack.append(make("p", {}, page.faces ? "This face was left out: the page has a limit of bytes." : "Faces were left out."));
    if (face && maps.includes(this.layer)) stack.append(this.heat(run.maps[this.layer][row]));
    const choice = make("select", { onchange: (event) => { this.layer = event.target.value || null; this.draw(); } },
      make("option", { value: "" }, "no heat map"),
      ...maps.map((layer) => make("option", { value: layer, selected: layer === this.layer }, layer)));
    const strength = make("input", {
      type: "range", min: 0, max: 1, step: 0.05, value: this.strength,
      oninput: (event) => { this.strength = Number(event.target.value); stack.querySelector("canvas")?.style.setProperty("opacity", this.strength); },
    });
    this.dialog.replaceChildren(
      make("h2", { id: "viewer-title" }, run.path[row]),
      make("div", { class: "large" }, make("div", {}, stack, make("div", { class: "controls" },
        make("label", {}, "Heat map of |gradient|", choice), make("label", {}, "Strength", strength))), this.table(row)),
      make("div", { class: "controls" },
        make("button", { type: "button", onclick: () => this.step(-1), disabled: this.place === 0 }, "← before"),
        make("button", { type: "button", onclick: () => this.step(1), disabled: this.place === this.rows.length - 1 }, "next →"),
        make("span", {}, `${(this.place + 1).toLocaleString("en")} of ${this.rows.length.toLocaleString("en")}`),
        make("button", { type: "button", onclick: () => this.dialog.close() }, "Close")));
  }

  table(row) {
    const { run } = this;
    const lines = run.scores.map((score) => {
      const values = run.values[score];
      const worse = values.filter((value) => isBetter(run, score, values[row], value)).length;
      return make("tr", {}, make("td", {}, score), make("td", {}, said(values[row])),
        make("td", {}, `${Math.round((100 * worse) / Math.max(1, values.length - 1))} %`), make("td", {}, said(run.qualities[score]?.[row])));
    });
    return make("table", {}, make("caption", {}, `Identity: ${run.identities[run.identity[row]]}`),
      make("thead", {}, make("tr", {}, ...["", "score", "better than, here", "quality"].map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...lines));
  }

  /** A map, small and grey, as colours over the face; interpolated by the browser as it is enlarged. */
  heat(data) {
    const canvas = make("canvas", { "aria-hidden": "true", style: `opacity:${this.strength}` });
    const image = new Image();
    image.addEventListener("load", () => {
      canvas.width = image.width;
      canvas.height = image.height;
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const pixels = context.getImageData(0, 0, image.width, image.height);
      for (let place = 0; place < pixels.data.length; place += 4) {
        const level = pixels.data[place];
        [pixels.data[place], pixels.data[place + 1], pixels.data[place + 2]] = page.colours[level];
        pixels.data[place + 3] = level;
      }
      context.putImageData(pixels, 0, 0);
    });
    image.src = `data:image/jpeg;base64,${data}`;
    return canvas;
  }
}
