"use strict";
/* What the page was given, and small things that all parts use. */

const page = JSON.parse(document.getElementById("data").textContent);

/** An element with attributes, listeners (`onclick`) and children; texts stay texts, whatever is in them. */
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "rect", "circle", "line", "text", "title"].includes(tag) && tag !== "title";
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A number in a few digits. */
function said(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** Whether the first value of a score means higher quality than the second. */
function isBetter(run, score, one, other) {
  return run.directions[score] === "higher" ? one > other : one < other;
}

/** The rows of a run, best first by a score. */
function ranked(run, score) {
  const values = run.values[score];
  const sign = run.directions[score] === "higher" ? -1 : 1;
  return values.map((_, row) => row).sort((one, other) => sign * (values[one] - values[other]) || one - other);
}

/** Save text as a file of the user's. */
function save(name, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** A cell of a CSV file: quoted where it must be, and never a formula of a spreadsheet. */
function cell(value) {
  const text = String(value);
  const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
