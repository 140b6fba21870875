"use strict";

// Follows a column to the raw files, as orchestration.lineage.upstream does, and shows each model on the way. All text
// goes into the page as text.

const relations = JSON.parse(document.getElementById("lineage").textContent);
const [VALUE, ROWS] = ["value", "*"];
const KINDS = { model: "model", seed: "table of the crosswalk, written by people", raw: "raw layer", file: "file as received" };
const tables = Object.keys(relations).filter((name) => name.startsWith("marts.") && document.getElementById(name)).sort();
const choice = Object.fromEntries(["table", "column", "question"].map((id) => [id, document.getElementById(id)]));

function element(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...content);
  return made;
}

function sourcesOf(relation, column, value) {
  for (const part of [relation.slices?.[value], relation]) {
    if (part && column === ROWS) return part.rows;
    if (part && column in part.columns) return part.columns[column].sources ?? [];
  }
  return [];
}

function upstream(table, column, question) {
  const sliceOf = (relation, where) => {
    const by = relation.sliced_by;
    const fixed = where.find(([name]) => name === by);
    return fixed ? fixed[1] : by === "question_id" && question ? question : null;
  };
  const found = new Map();
  for (const onlyValues of [true, false]) {
    const pending = [[table, column, sliceOf(relations[table], [])]];
    const seen = new Set([JSON.stringify(pending[0])]);
    for (const [at, name, value] of pending) {
      const key = JSON.stringify([at, name]);
      if (!found.has(key)) found.set(key, { at, name, value: onlyValues });
      for (const [source, sourceColumn, kind, where] of sourcesOf(relations[at], name, value)) {
        if (onlyValues && kind !== VALUE) continue;
        const step = [source, sourceColumn, sliceOf(relations[source], where)];
        if (!seen.has(JSON.stringify(step))) {
          seen.add(JSON.stringify(step));
          pending.push(step);
        }
      }
    }
  }
  return [...found.values()];
}

// The nearest models first, and each one before everything that it reads.
function inOrder(names) {
  const reads = (name) => {
    const relation = relations[name];
    const parts = [relation, ...Object.values(relation.slices ?? {})];
    return new Set(parts.flatMap((p) => [...p.rows, ...Object.values(p.columns).flatMap((c) => c.sources ?? [])]).map(([r]) => r));
  };
  const done = [];
  const visit = (name) => {
    if (done.includes(name) || !names.includes(name)) return;
    [...reads(name)].filter((other) => other !== name).forEach(visit);
    done.push(name);
  };
  names.forEach(visit);
  return done.reverse();
}

function table(caption, head, rows) {
  const body = rows.map(([first, ...rest]) =>
    element("tr", {}, element("th", { scope: "row" }, first), ...rest.map((cell) => element("td", {}, ...[cell].flat()))));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element("table", {}, element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...head.map((title) => element("th", { scope: "col" }, title)))),
      element("tbody", {}, ...body)));
}

function wide(rem, ...content) {
  return element("div", { style: `min-width: ${rem}rem` }, ...content);
}

function listed(items, nothing = "") {
  return items.length ? items.flatMap((item, at) => [...(at ? [", "] : []), element("code", {}, item)]) : [nothing];
}

// Which column of each wave's file a column of the staging layer is read from.
function rawColumns(steps) {
  const rows = [];
  const waves = new Set();
  for (const { at, name } of steps) {
    const byWave = {};
    for (const [source, column, , where] of name === ROWS ? [] : relations[at].columns[name]?.sources ?? []) {
      if (relations[source].sliced_by !== "survey_year") continue;
      for (const [file, header] of sourcesOf(relations[source], column, where.find(([by]) => by === "survey_year")?.[1])) {
        if (relations[file].kind !== "file" || header === ROWS) continue;
        waves.add(relations[file].wave);
        (byWave[relations[file].wave] ??= new Map()).set(header, relations[file].columns[header].description);
      }
    }
    if (Object.keys(byWave).length) rows.push([at, name, byWave]);
  }
  return [[...waves].sort(), rows.sort(([a, b], [c, d]) => (a + b < c + d ? -1 : 1))];
}

function section(name, steps) {
  const relation = relations[name];
  const rows = steps.filter((step) => step.name !== ROWS).map((step) => {
    const made = relation.columns[step.name] ?? {};
    const how = (made.how ?? []).map(([place, sql, where]) =>
      element("li", {}, element("code", {}, sql + (where ? ` where ${where}` : "")), place ? ` (in ${place})` : ""));
    return [step.name, step.value ? "value" : "rows that count", wide(12, made.description ?? ""),
      how.length ? element("ol", {}, ...how) : relation.kind === "model" ? "taken over as it is" : ""];
  });
  const content = [element("h3", {}, element("code", {}, name)),
    element("p", {}, `${KINDS[relation.kind][0].toUpperCase()}${KINDS[relation.kind].slice(1)}. ${relation.description}`)];
  if (relation.kind === "model" || relation.kind === "seed") content.push(element("p", {}, "Rule: ", element("code", {}, relation.file)));
  if (rows.length) content.push(table(`Columns of ${name} on the path`, ["Column", "Decides the", "In words", "Expressions, the last one first"], rows));
  else content.push(element("p", {}, "Its rows decide which rows count."));
  if (relation.sql) content.push(element("details", {}, element("summary", {}, `SQL of ${name}`),
    element("pre", { tabindex: "0", role: "region", "aria-label": `SQL of ${name}` }, element("code", {}, relation.sql))));
  return element("section", {}, ...content);
}

function show(name, column, question) {
  const steps = upstream(name, column, question);
  const path = document.getElementById("path");
  const made = relations[name].columns[column];
  const [waves, raw] = rawColumns(steps);
  const models = inOrder([...new Set(steps.map((step) => step.at))]);
  const about = question ? ` for the question ${question}` : "";
  path.replaceChildren(
    element("h2", { id: "path-title" }, `${name.split(".")[1]}.${column}`),
    element("p", {}, made.description));
  const count = (kind) => models.filter((at) => relations[at].kind === kind).length;
  document.getElementById("in-short").textContent = `${name.split(".")[1]}.${column} is made${about} in ${count("model")} models `
    + `from ${count("seed")} tables of the crosswalk and ${count("file")} files.`;
  if (raw.length) path.append(table(`Raw columns${about}, by wave`, ["Read as", "In words", ...waves.map(String)],
    raw.map(([at, read, byWave]) => [wide(12, element("code", {}, `${at.split(".")[1]}.${read}`)),
      wide(14, relations[at].columns[read].description),
      ...waves.map((wave) => [...(byWave[wave] ?? [["–", ""]])].map(([header, label]) =>
        wide(9, element("code", {}, header), label ? ` ${label}` : "")))])));
  for (const at of models.filter((at) => relations[at].kind !== "file")) path.append(section(at, steps.filter((step) => step.at === at)));
  const files = models.filter((at) => relations[at].kind === "file");
  if (files.length) path.append(element("section", {}, element("h3", {}, "The files as received"),
    table("Files", ["Table", "File", "Columns on the path"], files.map((at) => [at, relations[at].path,
      listed(steps.filter((step) => step.at === at && step.name !== ROWS).map((step) => step.name), "rows alone")]))));
  path.hidden = false;
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, label]) => element("option", { value }, label)));
}

function chosen() {
  const [name, column] = [choice.table.value, choice.column.value];
  return `#${name}.${column}${choice.question.value ? `/${choice.question.value}` : ""}`;
}

function follow() {
  const [place, question = ""] = decodeURIComponent(location.hash.slice(1)).split("/");
  const name = tables.find((each) => place.startsWith(`${each}.`));
  const column = name && place.slice(name.length + 1);
  if (!name || !(column in relations[name].columns)) return;
  const questions = Object.entries(relations[name].questions ?? {});
  choice.table.value = name;
  fill(choice.column, Object.keys(relations[name].columns).map((each) => [each, each]));
  choice.column.value = column;
  fill(choice.question, questions);
  if (question) choice.question.value = question;
  document.getElementById("of-question").hidden = !questions.length;
  show(name, column, choice.question.value);
  if (!Object.values(choice).includes(document.activeElement)) document.getElementById("path").scrollIntoView();
}

fill(choice.table, [["", "choose a table"], ...tables.map((name) => [name, name.split(".")[1]])]);
fill(choice.column, [["", "then a column"]]);
choice.table.addEventListener("change", () => {
  if (choice.table.value) location.hash = `#${choice.table.value}.${Object.keys(relations[choice.table.value].columns)[0]}`;
});
for (const select of [choice.column, choice.question]) select.addEventListener("change", () => { location.hash = chosen(); });
window.addEventListener("hashchange", follow);
document.getElementById("choice").hidden = false;
follow();
