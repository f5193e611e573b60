// The review page. Drafts live in localStorage from the first keystroke on, so that no navigation, reload or crash loses one.
"use strict";
const $ = (id) => document.getElementById(id);
const FIELDS = ["decision_longitudinal", "decision_lateral", "direction"];
const COLOURS = {
  strong_accelerate: "#5fae77", gentle_accelerate: "#9fd0a5", maintain_speed: "#d4d9df", gentle_decelerate: "#f4b392", strong_decelerate: "#e06a5c",
  stop: "#9aa4b1", reverse: "#b99bc7", go_straight: "#d4d9df", steer_left: "#a5d0e6", sharp_steer_left: "#5aa7d8", steer_right: "#fdc98a",
  sharp_steer_right: "#e59a4e", reverse_left: "#a48fc4", reverse_right: "#c3aed6",
};
let over, detail, form, auto, tick = 0, timer = null, lastActed = null, composing = 0, loading = 0;

const words = (name) => (name || "").replaceAll("_", " ");
const copy = (value) => JSON.parse(JSON.stringify(value));
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try { answer = await fetch(path, options); } catch { throw new Error("The server does not answer; start the review again. Your changes are kept in this browser."); }
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

function say(text, bad) { $("message").textContent = text; $("message").className = bad ? "bad" : ""; }
const trying = (act) => async (...given) => { try { await act(...given); } catch (error) { say(error.message, true); } };

// drafts -----------------------------------------------------------------------------------------------------------
const prefix = () => `causaldrive:${over.set}:${over.annotator}:`;
const draftKey = (row) => `${prefix()}${row.index}:${row.t0_us}`;
const rowKey = () => draftKey(over.rows[detail.index]);
const emptyForm = () => ({ decision_longitudinal: null, decision_lateral: null, direction: null, trace: "", causes: [] });
const clean = () => (detail.open ? detail.saved : emptyForm());
const dirty = () => !same(form, clean());
function keepDraft() {
  if (dirty() && !same(form, detail.form)) localStorage.setItem(rowKey(), JSON.stringify({ form, auto, open: detail.open }));
  else localStorage.removeItem(rowKey());
}
function readDraft() {
  const kept = JSON.parse(localStorage.getItem(rowKey()) || "null");
  return kept && kept.open === detail.open ? kept : null;
}

// list -------------------------------------------------------------------------------------------------------------
function listed() {
  const wanted = $("filter").value;
  return over.rows.filter((row) => row.index === detail?.index || !wanted || (wanted === "todo" ? !row.by
    : wanted === "draft" ? localStorage.getItem(draftKey(row)) : row.by && row.status === wanted));
}
function drawList() {
  const rows = listed(), here = Math.max(rows.findIndex((row) => row.index === detail?.index), 0);
  const first = Math.max(here - 150, 0), shown = rows.slice(first, first + 300);
  $("list").replaceChildren(...shown.map((row) => {
    const item = document.createElement("li"), top = document.createElement("b"), below = document.createElement("small");
    item.className = [row.by ? row.status : "", row.index === detail?.index ? "here" : "", localStorage.getItem(draftKey(row)) ? "draft" : ""].join(" ");
    top.textContent = row.title;
    below.textContent = `${row.recording_id} · ${(row.t0_us / 1e6).toFixed(1)} s${row.by ? " · " + row.by : ""}`;
    item.append(top, below);
    item.title = `${row.recording_id}, t0 ${(row.t0_us / 1e6).toFixed(1)} s`;
    item.onclick = () => go(row.index);
    return item;
  }));
  $("list").querySelector(".here")?.scrollIntoView({ block: "nearest" });
  const by = (status) => over.rows.filter((row) => row.by && row.status === status).length, all = over.rows.length;
  const counts = ["accepted", "edited", "rejected"].map(by);
  [...$("progress").children].forEach((bar, i) => { bar.style.width = `${100 * counts[i] / all}%`; });
  $("counts").textContent = `${counts[0] + counts[1] + counts[2]} of ${all} decided: ${counts[0]} accepted, ${counts[1]} edited, ${counts[2]} rejected`;
}

// pictures ---------------------------------------------------------------------------------------------------------
const last = () => (detail.open ? over.ticks[1] : 0);
const source = (kind, k) => `/media/${detail.index}/${encodeURIComponent(kind)}/${k}.jpg?${over.session}`;
function showTick(k) {
  tick = Math.min(Math.max(k, over.ticks[0]), last());
  const camera = $("camera").value, stamp = `${tick > 0 ? "+" : tick < 0 ? "−" : ""}${Math.abs(tick / 10).toFixed(1)} s`;
  $("tick").value = tick; $("clock").textContent = stamp;
  $("stamp").textContent = tick > 0 ? `${stamp} after t0` : tick < 0 ? `${stamp} before t0`.replace("−", "") : "t0";
  $("stamp").className = tick > 0 ? "future" : "";
  if (camera) $("frame").src = source(camera, tick);
  if (detail.bev) $("bev").src = source("bev", tick);
  const now = $("motion").querySelector(".now");
  if (now) { const x = place(tick); now.setAttribute("x1", x); now.setAttribute("x2", x); }
}
async function preload(index) {
  const kinds = [$("camera").value, detail.bev ? "bev" : ""].filter(Boolean), order = [];
  for (let k = 0; k >= over.ticks[0]; k--) order.push(k);
  for (let k = 1; k <= last(); k++) order.push(k);
  for (const k of order) {
    if (detail.index !== index) return;
    await Promise.all(kinds.map((kind) => new Promise((done) => { const image = new Image(); image.onload = image.onerror = done; image.src = source(kind, k); })));
  }
}
// Both pictures are of the moment shown: the clip waits for whichever comes late.
const drawn = () => ["frame", "bev"].every((id) => $(id).complete);
function play(on) {
  clearInterval(timer); timer = null;
  if (on) {
    if (tick >= last()) showTick(over.ticks[0]);
    timer = setInterval(() => drawn() && showTick(tick >= last() ? over.ticks[0] : tick + 1), 100);
  }
  $("play").textContent = timer ? "Pause" : "Play";
}

// motion -----------------------------------------------------------------------------------------------------------
const [LEFT, WIDE] = [78, 806];
const place = (k) => LEFT + WIDE * (k - over.ticks[0]) / (over.ticks[1] - over.ticks[0]);
function svg(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  $("motion").append(node);
  return node;
}
function drawMotion() {
  $("motion").replaceChildren();
  const motion = detail.motion;
  $("motion").toggleAttribute("hidden", !motion);
  if (!motion) return;
  if (!detail.open) {
    svg("rect", { class: "hidden", x: place(0), y: 6, width: place(over.ticks[1]) - place(0), height: 272 });
    svg("text", { x: (place(0) + place(over.ticks[1])) / 2, y: 140, "text-anchor": "middle" }, "hidden until the causes are named");
  }
  [["speed_mps", "speed", "m/s", 2, 1], ["acceleration_mps2", "acceleration", "m/s²", 1, 1], ["curvature_1pm", "curvature", "1/m, left +", 0.01, 3]]
    .forEach(([name, title, unit, least, digits], i) => strip(motion, name, title, unit, least, digits, 8 + 70 * i));
  ["longitudinal", "lateral"].forEach((axis, i) => {
    const y = 220 + 30 * i;
    svg("text", { x: LEFT - 6, y: y + 16, "text-anchor": "end" }, axis);
    for (const span of motion.spans.filter((one) => one.axis === axis)) {
      const x = place(span.start), width = Math.max(place(span.end) - x - 1, 1);
      svg("rect", { x, y, width, height: 24, rx: 4, fill: COLOURS[span.label] }).append(title(words(span.label)));
      if (width > 6.2 * span.label.length) svg("text", { class: "label", x: x + width / 2, y: y + 16, "text-anchor": "middle" }, words(span.label));
    }
  });
  for (let s = -2; s <= 6; s += 1) svg("text", { x: place(10 * s), y: 294, "text-anchor": "middle" }, s ? `${s > 0 ? "+" : "−"}${Math.abs(s)} s` : "t0");
  svg("line", { class: "t0", x1: place(0), x2: place(0), y1: 4, y2: 280 });
  svg("line", { class: "now", x1: place(tick), x2: place(tick), y1: 4, y2: 280 });
}
function title(text) { const node = document.createElementNS("http://www.w3.org/2000/svg", "title"); node.textContent = text; return node; }
function strip(motion, name, heading, unit, least, digits, top) {
  const values = motion[name], low = Math.min(0, ...values), high = Math.max(low + least, ...values), y = (v) => top + 58 - 54 * (v - low) / (high - low);
  svg("text", { x: LEFT - 6, y: top + 26, "text-anchor": "end" }, heading);
  svg("text", { x: LEFT - 6, y: top + 40, "text-anchor": "end" }, unit);
  svg("line", { class: "zero", x1: LEFT, x2: LEFT + WIDE, y1: y(0), y2: y(0) });
  svg("polyline", { class: "curve", points: values.map((v, i) => `${place(motion.ticks[i]).toFixed(1)},${y(v).toFixed(1)}`).join(" ") });
  svg("text", { x: LEFT + WIDE + 2, y: top + 10, "text-anchor": "end" }, high.toFixed(digits));
}

// editor -----------------------------------------------------------------------------------------------------------
function options(select, names, value, empty) {
  if (select.options.length === names.length + 1) { select.value = value || ""; return; }  // kept, so that typing ahead goes on
  select.replaceChildren(...[["", empty], ...names.map((name) => [name, words(name)])].map(([name, text]) => new Option(text, name, false, name === (value || ""))));
}
function drawEditor() {
  const open = detail.open;
  for (const id of ["decision", "trace_box", "note_box", "reject", "undo"]) $(id).hidden = !open;
  const who = detail.by ? `<b></b> by <span></span>` : open ? `<b></b> so far, by the teacher <span></span>` : `Name what you see that calls for a decision. The future is shown afterwards.`;
  $("status").innerHTML = who;
  if ($("status").querySelector("b")) { $("status").querySelector("b").textContent = detail.status; $("status").querySelector("b").className = detail.status; }
  if ($("status").querySelector("span")) $("status").querySelector("span").textContent = detail.by || detail.teacher;
  for (const name of FIELDS) {
    options($(name), over.words[name], form[name], name === "direction" ? "none" : "no decision");
    $(name).classList.toggle("changed", open && form[name] !== detail.saved[name]);
  }
  $("direction").disabled = !over.words.sided.includes(form.decision_lateral);
  $("ids").replaceChildren(...detail.ids.map((name) => new Option(name, name)));
  $("causes").replaceChildren(...form.causes.map(causeCard));
  $("add").hidden = open && over.two_stage;
  if ($("trace") !== document.activeElement) $("trace").value = form.trace;
  $("trace").classList.toggle("changed", open && form.trace !== detail.saved.trace);
  $("auto").checked = auto;
  drawButtons();
}
function drawButtons() {
  const changed = dirty(), open = detail.open;
  $("accept").querySelector("span").textContent = open ? (changed ? "Save edit" : "Accept") : "Show the future";
  $("accept").classList.toggle("save", changed || !open); $("accept").classList.toggle("wide", !open);
  $("discard").hidden = !changed || !open; $("undo").hidden = !open || (changed && true);
  $("undo").disabled = !detail.by && lastActed === null;
  $("checks").replaceChildren(...(open && !changed ? detail.checks : []).map((one) => { const item = document.createElement("li"); item.textContent = `${words(one.check)}: ${one.reason}`; return item; }));
}
function causeCard(cause, i) {
  const card = document.createElement("div"), fixed = detail.open && over.two_stage;
  card.className = "cause";
  const set = (name, value) => { cause[name] = value === "" ? null : value; edited(); };
  const text = document.createElement("input"), remove = document.createElement("button");
  Object.assign(text, { value: cause.text || "", placeholder: "what was seen, e.g. a pedestrian is crossing", disabled: fixed, oninput: () => set("text", text.value) });
  text.setAttribute("aria-label", `cause ${i + 1}`);
  Object.assign(remove, { type: "button", textContent: "✕", title: "remove this cause", onclick: () => { form.causes.splice(i, 1); edited(); drawEditor(); } });
  // Choosing must not redraw the card: the focus would go, and the next letter would be taken for a command.
  const kind = document.createElement("select"), category = document.createElement("select");
  options(kind, Object.keys(over.words.kinds), cause.kind, "other kind");
  options(category, over.words.categories, cause.category, "category");
  kind.onchange = () => { cause.kind = kind.value || null; if (cause.kind) { cause.category = over.words.kinds[cause.kind]; category.value = cause.category; } edited(); };
  category.onchange = () => { cause.category = category.value || null; if (cause.kind && over.words.kinds[cause.kind] !== cause.category) { cause.kind = null; kind.value = ""; } edited(); };
  const id = document.createElement("input"), seen = document.createElement("select"), now = document.createElement("button");
  Object.assign(id, { value: cause.agent_id || "", placeholder: "its id", disabled: fixed, oninput: () => set("agent_id", id.value) });
  id.setAttribute("list", "ids");
  const at = cause.evidence_t_us === null || cause.evidence_t_us === undefined ? "" : String(Math.round((cause.evidence_t_us - detail.t0_us) / 1e5));
  seen.replaceChildren(new Option("seen at …", ""), ...Array.from({ length: 21 }, (_, k) => new Option(k ? `seen −${(k / 10).toFixed(1)} s` : "seen at t0", String(-k))));
  seen.value = at;
  seen.onchange = () => set("evidence_t_us", seen.value === "" ? null : detail.t0_us + 1e5 * Number(seen.value));
  Object.assign(now, { type: "button", textContent: "now", title: "seen at the moment shown", disabled: fixed, onclick: () => { if (tick > 0) return say("A cause must be seen at or before t0; go back to that moment first.", true); cause.evidence_t_us = detail.t0_us + 1e5 * tick; edited(); drawEditor(); } });
  for (const select of [kind, category, seen]) select.disabled = fixed;
  const line = (...parts) => { const div = document.createElement("div"); div.className = "line"; div.append(...parts); return div; };
  card.append(line(text, remove), line(kind, category), line(id, seen, now));
  return card;
}
function edited() {
  keepDraft(); drawButtons(); drawList();
  if (auto && detail.open) compose();
}
const compose = trying(async () => {
  const turn = ++composing, index = detail.index, answer = await ask("/api/compose", form);
  if (turn !== composing || index !== detail.index) return;
  form.trace = answer.trace; $("trace").value = answer.trace; say("");
  $("trace").classList.toggle("changed", answer.trace !== detail.saved.trace);
  keepDraft(); drawButtons(); drawList();
});

// moving and deciding ----------------------------------------------------------------------------------------------
function show(found) {
  detail = found;
  const row = over.rows[detail.index];
  Object.assign(row, { recording_id: detail.recording_id, status: detail.status, by: detail.by, open: detail.open });
  if (detail.open) row.title = [detail.saved.decision_longitudinal, detail.saved.decision_lateral, detail.saved.direction].filter(Boolean).map(words).join(", ") || "no decision";
  if (!detail.open) detail.form = emptyForm();
  const draft = readDraft();
  form = draft ? draft.form : copy(detail.form); auto = draft ? draft.auto : detail.open && !same(detail.form.causes, detail.saved.causes);
  $("name").textContent = detail.recording_id;
  $("moment").textContent = `t0 = ${(detail.t0_us / 1e6).toFixed(1)} s · ${detail.origin}`;
  $("problem").hidden = !detail.problem; $("problem").textContent = detail.problem;
  const before = $("camera").value;
  $("camera").replaceChildren(...detail.cameras.map((name) => new Option(name, name, false, name === before)));
  $("camera").hidden = detail.cameras.length < 2;
  $("above").hidden = !detail.bev;
  $("clip").classList.toggle("blank", !detail.cameras.length); $("clip").dataset.why = "this recording has no video";
  $("frame").hidden = !detail.cameras.length;
  $("tick").min = over.ticks[0]; $("tick").max = over.ticks[1];
  drawMotion(); drawEditor(); drawList(); showTick(Math.min(tick, last()));
  if (auto && !draft) compose();
  preload(detail.index);
}
const go = trying(async (index) => {
  if (index < 0 || index >= over.rows.length) return say("There is no further label.");
  const turn = ++loading;
  play(false); say(""); $("note").value = "";
  const found = await ask(`/api/labels/${index}`);
  if (turn !== loading) return;
  tick = 0; show(found); history.replaceState(null, "", `#${index}`);
});
function step(way) {
  const rows = listed(), here = rows.findIndex((row) => row.index === detail.index), to = rows[here + way];
  return to ? go(to.index) : say(way > 0 ? "That was the last label." : "This is the first label.");
}
const decide = trying(async (action) => {
  const index = detail.index, body = { action, revision: detail.revision, note: $("note").value, ...form };
  let found;
  try { found = await ask(`/api/labels/${index}`, body); }
  catch (error) {
    if (error.message.includes("another page")) { keepDraft(); show(await ask(`/api/labels/${index}`)); }
    throw error;
  }
  localStorage.removeItem(rowKey()); lastActed = action === "undo" ? null : index;
  show(found);
  if (action === "undo") return say("Taken back.");
  const done = `${words(found.status)}: ${found.recording_id} at ${(found.t0_us / 1e6).toFixed(1)} s; u takes it back`;
  const rows = over.rows, next = [...rows.slice(index + 1), ...rows.slice(0, index)].find((row) => !row.by);
  if (next) { await go(next.index); say(done); } else say(`${done}. Every label is decided.`);
});
const accept = trying(async () => {
  if (detail.open) return decide(dirty() ? "edit" : "accept");
  const key = rowKey(), found = await ask(`/api/labels/${detail.index}/causes`, { causes: form.causes });
  localStorage.removeItem(key); show(found); say("Here is the future. Does the decision fit, and the sentence?"); play(true);
});
const undo = trying(async () => {
  if (!detail.by && lastActed !== null) await go(lastActed);
  if (detail.by) await decide("undo"); else say("Nothing to take back here.");
});
function addCause() {
  if (detail.open && over.two_stage) return say("Causes are named before the future is shown; one may be removed now, none added.", true);
  form.causes.push({ category: null, text: "", kind: null, agent_id: null, evidence_t_us: detail.t0_us + 1e5 * Math.min(tick, 0) });
  edited(); drawEditor(); $("causes").lastElementChild.querySelector("input").focus();
}
function discard() {  // in two stages back to the causes that were named, since no others may be kept
  form = copy(over.two_stage ? detail.form : detail.saved); auto = !same(form.causes, detail.saved.causes); keepDraft(); drawEditor(); drawList();
  if (auto) compose();
  say(auto ? "Changes discarded; your own causes are kept." : "Changes discarded; the label is as it was saved.");
}

const KEYS = {
  a: () => accept(), r: () => detail.open && decide("reject"), u: undo, n: () => step(1), p: () => step(-1), j: () => step(1), k: () => step(-1),
  e: () => (detail.open ? $("decision_longitudinal") : $("add")).focus(), c: () => detail.open && compose(), "+": addCause,
  " ": () => play(!timer), ArrowLeft: () => { play(false); showTick(tick - 1); }, ArrowRight: () => { play(false); showTick(tick + 1); }, 0: () => { play(false); showTick(0); },
};
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName) && document.activeElement.type !== "range";
  if (!detail) return;
  if (event.key === "Escape") return document.activeElement.blur();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); return accept(); }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key] || (event.repeat && !event.key.startsWith("Arrow"))) return;
  if (event.key === " " && document.activeElement.tagName === "BUTTON") document.activeElement.blur();
  event.preventDefault(); KEYS[event.key]();
});
for (const name of FIELDS) $(name).onchange = () => {
  form[name] = $(name).value || null;
  if (name === "decision_lateral" && !over.words.sided.includes(form.decision_lateral)) form.direction = null;
  edited(); drawEditor();
};
$("trace").oninput = () => { form.trace = $("trace").value; auto = false; $("auto").checked = false; keepDraft(); drawButtons(); drawList(); };
$("auto").onchange = () => { auto = $("auto").checked; edited(); };
$("editor").onsubmit = (event) => event.preventDefault();
$("filter").onchange = drawList; $("camera").onchange = () => { showTick(tick); preload(detail.index); };
$("play").onclick = () => play(!timer); $("tick").oninput = () => { play(false); showTick(Number($("tick").value)); };
$("motion").onclick = (event) => {
  const box = $("motion").getBoundingClientRect(), x = (event.clientX - box.left) * 900 / box.width;
  play(false); showTick(Math.round(over.ticks[0] + (x - LEFT) * (over.ticks[1] - over.ticks[0]) / WIDE));
};
$("accept").onclick = accept; $("reject").onclick = () => decide("reject"); $("undo").onclick = undo; $("discard").onclick = discard; $("add").onclick = addCause;
for (const [id, figure, why] of [["frame", "clip", "no frame at this moment"], ["bev", "above", "not known at this moment"]]) {
  $(id).onload = () => { $(id).hidden = false; $(figure).classList.remove("blank"); };
  $(id).onerror = () => { $(id).hidden = true; $(figure).dataset.why = why; $(figure).classList.add("blank"); };
}
trying(async () => {
  over = await ask("/api/labels");
  $("who").textContent = over.annotator; $("mode").textContent = over.two_stage ? "two stages: causes first" : "";
  const wanted = Number(location.hash.slice(1)), todo = over.rows.find((row) => !row.by);
  await go(location.hash && wanted < over.rows.length ? wanted : todo ? todo.index : 0);
})();
