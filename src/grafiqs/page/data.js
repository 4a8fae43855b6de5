"use strict";
/* What the page was given, and what all its parts use. */

const page = JSON.parse(document.getElementById("data").textContent);

const DRAWN = new Set(["svg", "g", "path", "rect", "circle", "line", "text"]);

/** An element with attributes, listeners (`onclick`) and children; texts stay texts, whatever is in them. */
function make(tag, attributes = {}, ...children) {
  const node = DRAWN.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** What is shown when a pointer rests on a part of a drawing. */
function tip(text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", "title");
  node.append(text);
  return node;
}

/** A part of the page, with its heading. */
function section(id, title, ...children) {
  return make("section", { id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, title), ...children);
}

/** A list to choose from: pairs of a value and what it is called. */
function choice(label, pairs, chosen, change) {
  const select = make("select", { onchange: () => change(select.value) },
    ...pairs.map(([value, words]) => make("option", { value, selected: value === chosen }, printable(words))));
  return make("label", {}, label, select);
}

/** A number in a few digits. */
function said(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size >= 1e6 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

function percent(share, digits = 1) {
  return share === null || share === undefined ? "-" : `${(100 * share).toFixed(digits)} %`;
}

/** `1 image`, `2 images`. */
function counted(count, word) {
  const several = word.endsWith("y") ? `${word.slice(0, -1)}ies` : `${word}s`;
  return `${count.toLocaleString("en")} ${count === 1 ? word : several}`;
}

/** What faces can be ranked by: each score, and each quality; a number a row. */
function measuresOf(run) {
  const scores = run.scores.map((name) => ({ name, label: name, score: name, values: run.values[name], higher: run.directions[name] === "higher" }));
  const qualities = Object.keys(run.qualities).map((score) => ({
    name: `quality_${score}`, label: `quality (${score})`, score, values: run.qualities[score], higher: true,
  }));
  return [...scores, ...qualities];
}

function measureOf(run, name) {
  return run.measures.find((one) => one.name === name);
}

/** Whether the first value of a measure means higher quality than the second. */
function isBetter(measure, one, other) {
  return measure.higher ? one > other : one < other;
}

/** All rows, the worst by a measure first. */
function worstFirst(measure) {
  measure.order ??= measure.values.map((_, row) => row)
    .sort((one, other) => (measure.higher ? 1 : -1) * (measure.values[one] - measure.values[other]) || one - other);
  return measure.order;
}

const SHORT = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** A name in its printable form: what does not print, or turns the direction of writing, as the escape that Python has. */
function printable(name) {
  return name.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}\u00a0]/gu, (character) => {
    const code = character.codePointAt(0).toString(16);
    const [kind, digits] = code.length < 3 ? ["x", 2] : code.length < 5 ? ["u", 4] : ["U", 8];
    return SHORT[character] ?? `\\${kind}${code.padStart(digits, "0")}`;
  });
}

/** The largest of many numbers, at least `least`; a call with so many arguments would fail. */
function largest(values, least = -Infinity) {
  return values.reduce((one, other) => Math.max(one, other), least);
}

/** The share of the other faces on the page that a face is better than; equal ones count half. */
function standing(measure, row) {
  const { values } = measure;
  if (values.length < 2) return null;
  let worse = 0;
  let equal = -1;
  for (const value of values) {
    if (value === values[row]) equal += 1;
    else if (isBetter(measure, values[row], value)) worse += 1;
  }
  return (worse + equal / 2) / (values.length - 1);
}

/** Save rows as a CSV file of the user's. */
function saveCsv(name, rows) {
  const cell = (value) => (/[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const text = rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** A table; a cell that is a number is set to the right. */
function table(words, head, rows) {
  const cells = (row) => row.map((value, place) => make(place ? "td" : "th", place ? { class: typeof value === "string" ? "text" : null } : { scope: "row" },
    typeof value === "number" ? said(value) : typeof value === "string" ? printable(value) : value));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": words }, make("table", {},
    make("caption", {}, words),
    make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row))))));
}

/** What an image is drawn from, if the page has it. */
function thumbnail(run, row, words) {
  const face = run.faces[row];
  return face === undefined ? make("span", { class: "blank" }) : make("img", { src: `data:image/jpeg;base64,${face}`, alt: words, decoding: "async" });
}
