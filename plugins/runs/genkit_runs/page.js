"use strict";
const store = JSON.parse(document.getElementById("store").textContent);
const $ = id => document.getElementById(id);
const GAP = "–", MOST = 12;

function make(tag, look, ...inside) {
  const made = document.createElement(tag);
  if (look) made.className = look;
  made.append(...inside);
  return made;
}
function drawn(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
function link(text, to) {
  if (!to) return text;
  const made = make("a", "", text);
  made.href = to;
  return made;
}
const number = v => v === null || v === undefined ? GAP : String(Number(v.toPrecision(4)));
const clock = s => s === null || s === undefined ? GAP : s < 60 ? `${s} s`
  : s < 3600 ? `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")} min` : `${(s / 3600).toPrecision(3)} h`;
const day = s => s ? new Date(1000 * s).toISOString().slice(0, 16).replace("T", " ") : GAP;

// ---- the table -------------------------------------------------------------------------------------

const counts = {};
for (const run of store.runs) for (const name of Object.keys(run.figures)) counts[name] = (counts[name] || 0) + 1;
const aside = name => name.includes("held_out");
const figures = Object.keys(counts).sort((a, b) => aside(a) - aside(b) || counts[b] - counts[a]).slice(0, 3);
const value = (run, key) => store.values[store.keys.indexOf(key)]?.[run.recipe[store.keys.indexOf(key)]] ?? "";
const text = run => [run.run, run.state, run.differs, ...run.studies,
  ...store.keys.map((key, i) => `${key}=${store.values[i][run.recipe[i]]}`)].join(" ").toLowerCase();

const columns = [
  {name: "run", of: run => run.run},
  {name: "state", of: run => run.state},
  {name: "step", of: run => run.k, shown: run => `${run.k}/${run.steps}`},
  {name: "differs in", of: run => run.differs, look: "words"},
  ...figures.map(name => ({name, of: run => run.figures[name] ?? null,
    shown: run => number(run.figures[name]) + (run.apart && name in run.figures ? ` (${run.apart})` : "")})),
  {name: "training", of: run => run.seconds, shown: run => clock(run.seconds)},
  {name: "begun", of: run => run.created, shown: run => day(run.created), look: "wise"},
];
const chosen = new Set(), rows = new Map();

function row(run) {
  const box = make("input");
  box.type = "checkbox";
  box.setAttribute("aria-label", `choose ${run.run}`);
  box.onchange = () => { box.checked ? chosen.add(run) : chosen.delete(run); compare(); };
  const head = make("th", "", make("label", "", box, link(run.run, run.report)));
  head.scope = "row";
  const cells = columns.slice(1).map(column => {
    const cell = make("td", column.look, (column.shown || column.of)(run));
    cell.dataset.of = column.name;
    return cell;
  });
  rows.set(run, {tr: make("tr", "", head, ...cells), box, text: text(run)});
}

function compared(a, b) {
  if (a === null || b === null || a === undefined || b === undefined) return (a ?? null) === null ? 1 : -1;
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, {numeric: true});
}

let down = true;
function list() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean), of = $("of").value;
  const fits = run => words.every(word => rows.get(run).text.includes(word)) &&
    (of === "" || (of === "own" ? !run.studies.length : run.studies.includes(of)));
  const column = columns[$("sort").value], gone = run => (column.of(run) ?? null) === null;
  const shown = store.runs.filter(fits).sort((a, b) =>
    gone(a) || gone(b) ? gone(a) - gone(b) : (down ? -1 : 1) * compared(column.of(a), column.of(b)));
  $("runs").tBodies[0].replaceChildren(...shown.map(run => rows.get(run).tr));
  $("count").textContent = `${shown.length} of ${store.runs.length}`;
  $("turn").textContent = down ? "↓" : "↑";
  [...$("runs").tHead.rows[0].cells].forEach((th, i) => {
    if (String(i) === $("sort").value) th.setAttribute("aria-sort", down ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  });
}

function sortBy(i) {
  down = $("sort").value === String(i) ? !down : false;
  $("sort").value = String(i);
  list();
}

function option(of, value, label) {
  const made = make("option", "", label);
  made.value = value;
  of.append(made);
}

// ---- curves ----------------------------------------------------------------------------------------

function axis(values, log) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log && low > 0) {
    const air = Math.max((high / low) ** 0.06, 1.05), a = Math.log(low / air), b = Math.log(high * air);
    return {log, at: v => (Math.log(v) - a) / (b - a), low: low / air, high: high * air};
  }
  const air = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  low -= air; high += air;
  return {log: false, at: v => (v - low) / (high - low), low, high};
}
function ticks({low, high, log}, most = 5) {
  if (log) {
    const fine = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const m of [1, 2, 5]) if (m * 10 ** e >= low && m * 10 ** e <= high) fine.push(m * 10 ** e);
    const kept = fine.length <= most + 1 ? fine : fine.filter(v => v.toExponential()[0] === "1");
    if (kept.length > 1) return kept;
  }
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= (high - low) / most * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(i * step);
  return found;
}
function label(look, side, at, value) {
  const made = make("span", look, Math.abs(value) >= 1000 ? `${number(value / 1000)}k` : number(value));
  made.style[side] = `${100 * at}%`;
  return made;
}

function chart(name, runs) {
  const lines = runs.map((run, i) => ({run, i, line: run.curves[name]})).filter(one => one.line);
  if (!lines.length) return "";
  const solid = lines.flatMap(one => one.line[1]).filter(v => v !== null);
  const y = axis(solid, $("log").checked);
  const right = Math.max(1, ...lines.flatMap(one => one.line[0])), across = k => k / right;
  const svg = drawn("svg", {viewBox: "0 0 1000 1000", preserveAspectRatio: "none", role: "img",
    "aria-label": `${name} against step of ${lines.length} runs`});
  svg.append(drawn("path", {class: "grid", d: ticks(y).map(v => `M0 ${1000 * (1 - y.at(v))}H1000`).join("")}));
  const keys = make("span", "keys");
  for (const {run, i, line: [steps, values]} of lines) {
    const look = `c${i % 6}${i >= 6 ? " dashed" : ""}`;
    const d = steps.map((k, j) => values[j] === null ? "" : `${j ? "L" : "M"}${1000 * across(k)} ${1000 * (1 - y.at(values[j]))}`);
    svg.append(drawn("path", {class: look, d: d.join("").replace(/^L/, "M")}));
    keys.append(make("span", "", make("s", look), `${run.run} ${number(values[values.length - 1])}`));
  }
  const labels = make("div");
  labels.append(...ticks({low: 0, high: right}).map(v => label("x", "left", across(v), v)), ...ticks(y).map(v => label("y", "top", 1 - y.at(v), v)));
  labels.ariaHidden = "true";
  const note = make("span", "note", `against step${y.log ? ", log scale" : ""}; behind each name its last value`);
  return make("figure", "chart", make("figcaption", "", make("b", "", name), note, keys), make("div", "plot", svg, labels));
}

// ---- chosen runs -----------------------------------------------------------------------------------

function picture(name, path) {
  const image = make("img");
  image.src = path;
  image.alt = `samples of ${name}`;
  image.loading = "lazy";
  return make("figure", "", image, make("figcaption", "", name));
}

function pictures(runs) {
  const steps = [...new Set(runs.flatMap(run => Object.keys(run.pictures)))].sort((a, b) => a - b);
  const real = [...new Map(runs.filter(run => run.data).map(run => [value(run, "dataset.use"), run.data]))];
  return steps.flatMap(n => {
    const grids = runs.filter(run => run.pictures[n]).map(run => picture(run.run, run.pictures[n]));
    grids.push(...real.map(([data, path]) => picture(`training images${data ? ` of ${data}` : ""}`, path)));
    return [make("h3", "", `samples in ${n} step${n === "1" ? "" : "s"}`), make("div", "body", ...grids)];
  });
}

function table(of, head, lines) {
  of.tHead.rows[0].replaceChildren(...head.map(name => make("th", "", name)));
  of.tBodies[0].replaceChildren(...lines.map(([first, ...rest]) => {
    const th = make("th", "", first);
    th.scope = "row";
    const cells = rest.map((inside, i) => {
      const cell = make("td", "", inside);
      cell.dataset.of = head[i + 1];
      return cell;
    });
    return make("tr", "", th, ...cells);
  }));
}

function differences(runs) {
  const differ = all => new Set(all).size > 1;
  const recipe = store.keys.map((key, i) => [key, ...runs.map(run => store.values[i][run.recipe[i]])]);
  const names = [...new Set(runs.flatMap(run => Object.keys(run.figures)))];
  const measured = names.map(name => [name, ...runs.map(run => number(run.figures[name]))]);
  const rest = [["state", ...runs.map(run => run.state)], ["training", ...runs.map(run => clock(run.seconds))]];
  return [...recipe.filter(([, ...all]) => differ(all)), ...measured, ...rest];
}

function compare() {
  const runs = [...chosen].slice(0, MOST);
  history.replaceState(null, "", `#${runs.map(run => encodeURIComponent(run.run)).join(",")}`);
  const curves = [...new Set(runs.flatMap(run => Object.keys(run.curves)))], before = $("curve").value;
  $("hint").textContent = !runs.length ? "Choose runs in the table to see them side by side."
    : chosen.size > MOST ? `The first ${MOST} of ${chosen.size} are shown.` : "";
  $("hint").hidden = !$("hint").textContent;
  $("curves").hidden = !curves.length;
  $("curve").replaceChildren();
  curves.forEach(name => option($("curve"), name, name));
  if (curves.includes(before)) $("curve").value = before;
  draw();
  $("samples").replaceChildren(...pictures(runs));
  $("differences").hidden = !runs.length;
  table($("differences").querySelector("table"), ["", ...runs.map(run => run.run)], differences(runs));
}
function draw() { $("chart").replaceChildren(chart($("curve").value, [...chosen].slice(0, MOST))); }

// ---- begin -----------------------------------------------------------------------------------------

store.runs.forEach(row);
columns.forEach((column, i) => {
  const th = make("th", column.look, column.name);
  th.scope = "col"; th.tabIndex = 0;
  th.onclick = () => sortBy(i);
  th.onkeydown = event => { if (event.key === "Enter") sortBy(i); };
  $("runs").tHead.rows[0].append(th);
  option($("sort"), i, column.name);
});
option($("of"), "", "all runs");
if (store.studies.length) option($("of"), "own", "runs of their own");
store.studies.forEach(one => option($("of"), one.study, one.study));
$("studies").hidden = !store.studies.length;
table($("studies").querySelector("table"), ["study", "size", "trials", "says"], store.studies.map(one =>
  [link(one.study, one.report), one.size, one.state, one.said || GAP]));
for (const tr of $("studies").querySelectorAll("tr")) tr.cells[3].className = "words";
$("sort").value = String(columns.length - 1);
$("filter").oninput = $("of").onchange = $("sort").onchange = list;
$("turn").onclick = () => { down = !down; list(); };
$("none").onclick = () => { chosen.forEach(run => { rows.get(run).box.checked = false; }); chosen.clear(); compare(); };
$("curve").onchange = $("log").onchange = draw;
const named = decodeURIComponent(location.hash.slice(1)).split(",").filter(Boolean);
const first = named.length ? store.runs.filter(run => named.includes(run.run))
  : store.runs.filter(run => Object.keys(run.curves).length).slice(0, 2);
first.forEach(run => { chosen.add(run); rows.get(run).box.checked = true; });
list();
compare();
