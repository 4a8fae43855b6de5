/* How the scripts of the page are looked over: `make check` runs it from the root of the repository.

They are plain scripts, put into one page one after the other, so that they share what they declare. Here each is told
the names that the others declare (as read from them, not listed), and which of its own the others use: a name that
nobody declares, and one that nobody uses, are found over all of them. */

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import js from "@eslint/js";
import { analyze } from "eslint-scope";
import * as espree from "espree";

const FOLDER = "src/grafiqs/page";
const VERSION = 2022;

/* What scripts may take from the browser. A list, since a browser also has `name`, `event` and `status`, where a slip
would go unseen, and `fetch`, which the page has no business with; `window` would let all of them in. */
const BROWSER = [
  "addEventListener", "atob", "Blob", "clearTimeout", "document", "getComputedStyle", "Image", "IntersectionObserver", "location",
  "matchMedia", "navigator", "requestAnimationFrame", "ResizeObserver", "setTimeout", "URL",
];

const scripts = readdirSync(FOLDER).filter((name) => name.endsWith(".js")).map((name) => readNames(join(FOLDER, name)));

/** What a script declares for the others, and what it uses that it does not declare. */
function readNames(path) {
  const nothing = { path, declared: [], used: [] };
  try {
    const tree = espree.parse(readFileSync(path, "utf8"), { ecmaVersion: VERSION, range: true });
    const [scope] = analyze(tree, { ecmaVersion: VERSION, sourceType: "script" }).scopes;
    return { path, declared: [...scope.set.keys()], used: scope.through.map(({ identifier }) => identifier.name) };
  } catch {
    return nothing; // ESLint itself says what is wrong with it
  }
}

/** The names that other scripts have in one of their lists. */
function ofOthers(path, list) {
  return new Set(scripts.filter((script) => script.path !== path).flatMap((script) => script[list]));
}

/** Names that other scripts use count as used; a rule without complaints of its own. */
function usedByOthers(path) {
  const names = ofOthers(path, "used");
  return {
    create: ({ sourceCode }) => ({
      Program(node) {
        for (const name of names) sourceCode.markVariableAsUsed(name, node);
      },
    }),
  };
}

/** A text within a script that would end it, or hide its end, where it stands in a page. */
const inAPage = {
  create: (context) => ({
    Program(node) {
      const found = /<\/script|<script|<!--/i.exec(context.sourceCode.text);
      if (found) context.report({ node, message: `"${found[0]}" within a script breaks the page that holds it.` });
    },
  }),
};

const MARKUP = "Names from data sets would become markup: use make() and append().";
const markup = ["innerHTML", "outerHTML", "insertAdjacentHTML", "createContextualFragment", "setHTMLUnsafe", "srcdoc"];

export default scripts.map(({ path }) => ({
  files: [path],
  plugins: { page: { rules: { "used-by-others": usedByOthers(path), "in-a-page": inAPage } } },
  linterOptions: { noInlineConfig: true },
  languageOptions: {
    ecmaVersion: VERSION,
    sourceType: "script",
    globals: Object.fromEntries([...BROWSER, ...ofOthers(path, "declared")].map((name) => [name, "readonly"])),
  },
  rules: {
    ...js.configs.recommended.rules,
    "page/used-by-others": "error",
    "page/in-a-page": "error",
    "consistent-return": "error",
    "default-case-last": "error",
    eqeqeq: "error",
    "no-alert": "error",
    "no-console": "error",
    "no-eval": "error",
    "no-implicit-coercion": "error",
    "no-implied-eval": "error",
    "no-new-func": "error",
    "no-param-reassign": "error",
    "no-redeclare": ["error", { builtinGlobals: true }], // nor what another script declares
    "no-restricted-properties": [
      "error",
      ...markup.map((property) => ({ property, message: MARKUP })),
      ...["write", "writeln"].map((property) => ({ object: "document", property, message: MARKUP })),
      { object: "navigator", property: "sendBeacon", message: "The page asks nothing of elsewhere." },
    ],
    "no-restricted-syntax": ["error", {
      selector: "CallExpression[callee.property.name='setAttribute'] > Literal:first-child[value=/^on/i]",
      message: "A listener is a function: use make() or addEventListener().",
    }],
    "no-script-url": "error",
    "no-sequences": "error",
    "no-shadow": "error",
    "no-throw-literal": "error",
    "no-unused-expressions": "error",
    "no-use-before-define": ["error", { functions: false, variables: false }],
    "no-var": "error",
    "prefer-const": "error",
    strict: ["error", "global"],
  },
}));
