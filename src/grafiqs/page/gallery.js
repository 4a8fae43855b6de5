"use strict";
/* A wall of faces, of which only those are in the document that are seen. */

class Gallery {
  /** `show` is told at which place of the rows a face was chosen. */
  constructor(run, show) {
    Object.assign(this, { run, show, rows: [], tiles: new Map(), current: 0, seen: 0, width: 0 });
    this.withFaces = Object.keys(run.faces).length > 0;
    this.inside = make("div", { class: "wall", role: "list", "aria-label": "Faces" });
    this.box = make("div", { class: "gallery", tabindex: "0", role: "region", "aria-label": "Gallery of faces: arrow keys go from face to face" }, this.inside);
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("focusin", (event) => { if (event.target.dataset.place) this.mark(Number(event.target.dataset.place)); });
    new ResizeObserver(() => this.resized()).observe(this.box);
  }

  /** Show these rows in this order, each with its value of a measure. */
  fill(rows, measure) {
    Object.assign(this, { rows, measure, current: 0 });
    this.clear();
    this.box.scrollTop = 0;
    this.draw();
  }

  clear() {
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
  }

  /** Lay the wall out anew if it has another width; the face that has the focus keeps it. */
  resized() {
    if (this.width !== this.box.clientWidth) {
      const held = this.inside.contains(document.activeElement);
      const seen = this.seen;
      this.width = this.box.clientWidth;
      this.clear();
      this.draw();
      const { columns, high } = this.layout();
      this.box.scrollTop = Math.floor(seen / columns) * high;
      if (held) this.focus(this.current);
    } else this.draw();
  }

  layout() {
    const across = this.box.clientWidth || 320;
    const columns = Math.max(2, Math.floor(across / 128));
    const wide = Math.floor(across / columns);
    const [high, broad] = this.run.crop;
    return { columns, wide, high: (this.withFaces ? Math.round((wide * high) / broad) : 4) + 40 };
  }

  draw() {
    if (!this.measure) return;
    const { columns, wide, high } = this.layout();
    this.inside.style.height = `${Math.ceil(this.rows.length / columns) * high}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / high) - 2) * columns;
    const last = Math.min(this.rows.length, first + (Math.ceil(this.box.clientHeight / high) + 5) * columns);
    for (const [place, tile] of this.tiles) {
      if ((place < first || place >= last) && !tile.contains(document.activeElement)) {
        tile.remove();
        this.tiles.delete(place);
      }
    }
    let before = this.inside.firstChild;
    while (before && Number(before.firstChild.dataset.place) < first) before = before.nextSibling;
    for (let place = first; place < last; place += 1) {  // in the order of reading, so that keys and voices go that way
      let tile = this.tiles.get(place);
      if (tile) before = tile.nextSibling;
      else {
        tile = this.tile(place);
        tile.style.cssText = `left:${(place % columns) * wide}px;top:${Math.floor(place / columns) * high}px;width:${wide}px;height:${high}px`;
        this.tiles.set(place, tile);
        this.inside.insertBefore(tile, before);
      }
    }
    this.seen = Math.min(Math.max(0, this.rows.length - 1), Math.ceil(this.box.scrollTop / high) * columns);
    if (this.rows.length && !this.tiles.has(this.current)) this.mark(this.seen);  // so that Tab comes to what is seen
  }

  tile(place) {
    const { run, measure } = this;
    const row = this.rows[place];
    const quality = measure.name === measure.score ? run.qualities[measure.score]?.[row] : undefined;
    const words = `${said(measure.values[row])}${quality === undefined ? "" : `, quality ${quality}`}`;
    return make("div", { class: "tile", role: "listitem", "aria-setsize": this.rows.length, "aria-posinset": place + 1 },
      make("button", { type: "button", "data-place": place, tabindex: place === this.current ? 0 : -1, onclick: () => this.show(place) },
        this.withFaces ? thumbnail(run, row, "") : null, make("span", { class: "value" }, words), make("span", { class: "name" }, run.path[row])));
  }

  /** Make a face the one that Tab comes to. */
  mark(place) {
    this.tiles.get(this.current)?.firstChild.setAttribute("tabindex", "-1");
    this.current = place;
    this.tiles.get(place)?.firstChild.setAttribute("tabindex", "0");
  }

  /** Bring the face at a place into view, and give it the focus. */
  focus(place) {
    if (place < 0 || place >= this.rows.length) return;
    const { columns, high } = this.layout();
    const top = Math.floor(place / columns) * high;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + high > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + high - this.box.clientHeight;
    this.draw();
    this.tiles.get(place)?.firstChild.focus({ preventScroll: true });
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { columns, high } = this.layout();
    const screen = Math.max(1, Math.floor(this.box.clientHeight / high)) * columns;
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: screen, PageUp: -screen }[event.key];
    const last = this.rows.length - 1;
    const onFace = event.target.dataset.place !== undefined;
    let to = null;
    if (by) to = onFace ? Math.min(last, Math.max(0, this.current + by)) : this.current;
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = last;
    if (to === null || last < 0) return;
    event.preventDefault();
    this.focus(to);
  }
}
