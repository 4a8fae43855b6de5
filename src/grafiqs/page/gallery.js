"use strict";
/* The faces: sorted, filtered, and only those in the DOM that are seen. */

const TILE = 132;
const LABEL = 44;

class Gallery {
  constructor(run, show) {
    this.run = run;
    this.show = show;
    this.rows = [];
    this.short = () => false;
    this.box = make("div", { class: "gallery", tabindex: "0", role: "list", "aria-label": "Faces" });
    this.inside = make("div", {});
    this.box.append(this.inside);
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** Show these rows, in this order. */
  fill(rows, score) {
    this.rows = rows;
    this.score = score;
    this.box.scrollTop = 0;
    this.draw();
  }

  columns() {
    return Math.max(1, Math.floor((this.box.clientWidth || TILE) / TILE));
  }

  draw() {
    const columns = this.columns();
    const wide = Math.floor((this.box.clientWidth || TILE) / columns);
    const high = wide + LABEL;
    this.inside.style.height = `${Math.ceil(this.rows.length / columns) * high}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / high) - 1) * columns;
    const last = Math.min(this.rows.length, first + (Math.ceil(this.box.clientHeight / high) + 3) * columns);
    const tiles = [];
    for (let place = first; place < last; place += 1) tiles.push(this.tile(place, columns, wide, high));
    this.inside.replaceChildren(...tiles);
  }

  tile(place, columns, wide, high) {
    const row = this.rows[place];
    const { run } = this;
    const name = run.path[row];
    const quality = run.qualities[this.score]?.[row];
    const words = `${said(run.values[this.score][row])}${quality === undefined ? "" : `, quality ${quality}`}`;
    const face = run.faces[row];
    return make("button", {
      type: "button", class: `tile${this.short(row) ? " short" : ""}`, role: "listitem", "data-place": place,
      style: `left:${(place % columns) * wide}px; top:${Math.floor(place / columns) * high}px; width:${wide}px; height:${high}px`,
      "aria-label": `${name}, ${this.score} ${words}`, onclick: () => this.show(place),
    }, face ? make("img", { src: `data:image/jpeg;base64,${face}`, alt: "" }) : make("span", { class: "blank" }),
    make("span", {}, words), make("span", {}, name));
  }
}
