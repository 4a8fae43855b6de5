"use strict";
/* A wall of faces, of which only those are in the document that are seen. */

class Gallery {
  /** `show` is told at which place of the rows a face was chosen. */
  constructor(run, show) {
    Object.assign(this, { run, show, rows: [], tiles: new Map() });
    this.inside = make("div", { class: "wall", role: "list", "aria-label": "Faces" });
    this.box = make("div", { class: "gallery", tabindex: "0", role: "region", "aria-label": "Gallery of faces" }, this.inside);
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => { this.clear(); this.draw(); }).observe(this.box);
  }

  /** Show these rows in this order, each with its value of a measure. */
  fill(rows, measure) {
    Object.assign(this, { rows, measure });
    this.clear();
    this.box.scrollTop = 0;
    this.draw();
  }

  clear() {
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
  }

  layout() {
    const across = this.box.clientWidth || 320;
    const columns = Math.max(2, Math.floor(across / 128));
    const wide = Math.floor(across / columns);
    const [high, broad] = this.run.crop;
    return { columns, wide, high: Math.round((wide * high) / broad) + 40 };
  }

  draw() {
    if (!this.measure) return;
    const { columns, wide, high } = this.layout();
    this.inside.style.height = `${Math.ceil(this.rows.length / columns) * high}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / high) - 2) * columns;
    const last = Math.min(this.rows.length, first + (Math.ceil(this.box.clientHeight / high) + 5) * columns);
    for (const [place, tile] of this.tiles) {
      if (place < first || place >= last) {
        tile.remove();
        this.tiles.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) {
      if (this.tiles.has(place)) continue;
      const tile = this.tile(place);
      tile.style.cssText = `left:${(place % columns) * wide}px;top:${Math.floor(place / columns) * high}px;width:${wide}px;height:${high}px`;
      this.tiles.set(place, tile);
      this.inside.append(tile);
    }
  }

  tile(place) {
    const { run, measure } = this;
    const row = this.rows[place];
    const quality = measure.name === measure.score ? run.qualities[measure.score]?.[row] : undefined;
    const words = `${said(measure.values[row])}${quality === undefined ? "" : `, quality ${quality}`}`;
    return make("div", { class: "tile", role: "listitem", "aria-setsize": this.rows.length, "aria-posinset": place + 1 },
      make("button", { type: "button", "data-place": place, onclick: () => this.show(place) },
        thumbnail(run, row, ""), make("span", { class: "value" }, words), make("span", { class: "name" }, run.path[row])));
  }

  /** Bring the face at a place into view, and give it the focus. */
  focus(place) {
    if (place < 0 || place >= this.rows.length) return;
    const { columns, high } = this.layout();
    const top = Math.floor(place / columns) * high;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + high > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + high - this.box.clientHeight;
    this.draw();
    this.tiles.get(place)?.querySelector("button").focus({ preventScroll: true });
  }

  key(event) {
    const { columns } = this.layout();
    const last = this.rows.length - 1;
    const here = event.target.dataset.place === undefined ? null : Number(event.target.dataset.place);
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    let to = null;
    if (by && here !== null) to = Math.min(last, Math.max(0, here + by));
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = last;
    if (to === null) return;
    event.preventDefault();
    this.focus(to);
  }
}
