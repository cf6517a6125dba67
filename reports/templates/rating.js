"use strict";

const study = JSON.parse(document.getElementById("study").textContent);
const KEPT = `rating:${study.id}`;
const REPEATED = 0.1; // of the questions come twice
const GAP = 5; // questions at least between the two
const PAUSE = 250; // ms in which a second press of the last answer's key is not an answer to the next question
const $ = (id) => document.getElementById(id);

// The order of the questions: from a seed, so that it can be told later.

function randomFrom(seed) { // mulberry32
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(list, random) {
  const result = [...list];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}

function everyQuestion(items, mode, random) {
  return items.flatMap(({ id, results }) => {
    const pairs = results.flatMap((a, i) => results.slice(i + 1).map((b) => shuffled([a, b], random)));
    const shown = mode === "pairs" ? pairs : results.map((result) => [result]);
    return shown.map((ids) => ({ item: id, shown: ids, repeat: false }));
  });
}

// Never two questions of one picture in a row, as long as there is another way.
function spread(questions) {
  const left = [...questions];
  const count = new Map();
  for (const { item } of left) count.set(item, (count.get(item) || 0) + 1);
  const result = [];
  while (left.length) {
    const last = result.length ? result[result.length - 1].item : null;
    const pressing = [...count.keys()].find((item) => item !== last && count.get(item) * 2 > left.length);
    let index = left.findIndex(({ item }) => (pressing === undefined ? item !== last : item === pressing));
    if (index < 0) index = 0;
    const [question] = left.splice(index, 1);
    count.set(question.item, count.get(question.item) - 1);
    result.push(question);
  }
  return result;
}

// A tenth once more, well after their first time; pairs with their sides changed.
function withRepeats(questions, random) {
  const result = [...questions];
  let wanted = questions.length < 5 ? 0 : Math.max(1, Math.round(questions.length * REPEATED));
  for (const apart of [true, false]) {
    for (const question of shuffled(questions, random)) {
      if (!wanted) return result;
      const { item, shown } = question;
      if (result.some((other) => other.repeat && other.shown.includes(shown[0]) && other.shown.includes(shown.at(-1)))) continue;
      const places = [];
      for (let p = result.indexOf(question) + GAP + 1; p <= result.length; p++) {
        const near = [result[p - 1], result[p]].some((other) => other && other.item === item);
        if (!(apart && near)) places.push(p);
      }
      if (!places.length) continue;
      const place = places[Math.floor(random() * places.length)];
      result.splice(place, 0, { item, shown: [...shown].reverse(), repeat: true });
      wanted--;
    }
  }
  return result;
}

function plan(items, mode, seed) {
  const random = randomFrom(seed);
  return withRepeats(spread(shuffled(everyQuestion(items, mode, random), random)), random);
}

// What is kept between visits.

let refused = false;
let saved = true;

function keep() {
  saved = false;
  try {
    localStorage.setItem(KEPT, JSON.stringify(state));
  } catch {
    refused = true;
    $("unkept").hidden = false;
  }
}

function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(KEPT));
    const whole = found && Number.isInteger(found.seed) && /^[0-9a-f]{32}$/.test(found.session)
      && Array.isArray(found.answers) && found.answers.every((a) => a === null || isAnswer(a));
    return whole ? found : null;
  } catch (error) {
    if (!(error instanceof SyntaxError)) refused = true;
    return null;
  }
}

function isAnswer(answer) {
  const known = study.mode === "grades" ? [1, 2, 3, 4] : ["left", "right", "none"];
  return typeof answer === "object" && (answer.skipped === true || known.includes(answer.answer))
    && Number.isFinite(answer.seconds) && typeof answer.time === "string";
}

function fresh() {
  const hex = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0"));
  const seed = crypto.getRandomValues(new Uint32Array(1))[0];
  return { session: hex.join(""), seed, started: new Date().toISOString(), answers: [] };
}

let state = kept() || fresh();
let questions = plan(study.items, study.mode, state.seed);
let at = 0;

const items = new Map(study.items.map((item) => [item.id, item]));
const figures = new Map(Array.from(document.querySelectorAll("#stage figure"), (figure) => [figure.className, figure]));
const answered = () => questions.reduce((sum, _, i) => sum + (state.answers[i] ? 1 : 0), 0);
const firstOpen = () => questions.findIndex((_, i) => !state.answers[i]);

// One question on the screen.

let ready = false;
let ticket = 0; // of the question being shown: what was loading for another comes too late
let seen = 0; // ms the question was looked at
let since = null;

function addresses({ item, shown }) {
  const { lr, hr } = items.get(item);
  const ids = study.mode === "pairs" ? { left: shown[0], hr, right: shown[1] } : { lr, result: shown[0], hr };
  return Object.fromEntries(Object.entries(ids).filter(([, id]) => id).map(([name, id]) => [name, study.pictures[id]]));
}

function only(section) {
  for (const other of ["welcome", "question", "end"]) $(other).hidden = other !== section;
  $("stop").hidden = section !== "question";
  document.body.dataset.section = section;
}

async function show(index) {
  at = index;
  const mine = ++ticket;
  ready = false;
  delete document.body.dataset.ready;
  only("question");
  $("stage").classList.add("waiting");
  $("missing").hidden = true;
  tellProgress();
  const answer = state.answers[at];
  for (const button of document.querySelectorAll("[data-answer]")) {
    button.setAttribute("aria-pressed", String(Boolean(answer) && String(answer.answer) === button.dataset.answer));
  }
  $("back").disabled = at === 0;
  $("forward").hidden = !answer;
  const sources = addresses(questions[at]);
  const loading = [];
  for (const [name, figure] of figures) {
    figure.hidden = !sources[name];
    const image = figure.querySelector("img");
    if (!sources[name]) continue;
    image.src = sources[name];
    loading.push(image.decode());
  }
  try {
    await Promise.all(loading);
  } catch {
    if (mine === ticket) $("missing").hidden = false;
    return;
  }
  if (mine !== ticket) return;
  arrange();
  $("stage").classList.remove("waiting");
  seen = 0;
  since = document.hidden ? null : performance.now();
  setTimeout(() => {
    if (mine !== ticket) return;
    ready = true;
    document.body.dataset.ready = String(at);
  }, PAUSE);
  const next = questions[at + 1];
  if (next) for (const source of Object.values(addresses(next))) new Image().src = source;
}

function tellProgress() {
  $("count").textContent = `${at + 1} of ${questions.length}`;
  $("progress").max = questions.length;
  $("progress").value = answered();
}

// Every picture of a question at one size, enlarged by whole device pixels where it fits: no method gains by smoothing.
const mainImage = () => figures.get(study.mode === "pairs" ? "left" : "result").querySelector("img");

function zoomWithin(width, height) {
  const { naturalWidth, naturalHeight } = mainImage();
  const pixels = Math.min(width / naturalWidth, height / naturalHeight) * devicePixelRatio;
  return (pixels >= 1 ? Math.floor(pixels + 1e-6) : pixels) / devicePixelRatio;
}

function resize(image, zoom) {
  const { naturalWidth, naturalHeight } = mainImage();
  image.style.width = `${naturalWidth * zoom}px`;
  image.style.height = `${naturalHeight * zoom}px`;
  image.classList.toggle("pixelated", naturalWidth * zoom * devicePixelRatio >= image.naturalWidth);
}

function arrange() {
  const stage = $("stage");
  const style = getComputedStyle(stage);
  const gap = parseFloat(style.columnGap);
  const caption = stage.querySelector("figcaption").offsetHeight;
  const shown = [...figures].filter(([, figure]) => !figure.hidden);
  const mains = study.mode === "pairs" ? 2 : 1;
  const rows = style.getPropertyValue("--narrow").trim() === "1" && shown.length > mains ? 2 : 1;
  const width = stage.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const above = stage.getBoundingClientRect().top + scrollY;
  const height = Math.max(160, innerHeight - above - document.querySelector(".panel").offsetHeight - 2 * gap) - rows * (caption + gap);
  const columns = rows === 2 ? mains : shown.length;
  const large = zoomWithin((width - (columns - 1) * gap) / columns, rows === 2 ? height * 0.62 : height);
  const small = Math.min(large, zoomWithin((width - gap) / 2, height * 0.38));
  for (const [name, figure] of shown) {
    resize(figure.querySelector("img"), rows === 2 && (name === "lr" || name === "hr") ? small : large);
  }
  const share = large * devicePixelRatio;
  $("scale").textContent = share >= 1 ? "" : `Shown at ${Math.round(100 * share)} %. Enlarge to see every pixel.`;
}

function secondsSeen() {
  const now = since === null ? 0 : performance.now() - since;
  return Math.round(seen + now) / 1000;
}

function record(given) {
  const before = state.answers[at];
  const seconds = Math.min(86400, secondsSeen() + (before ? before.seconds : 0));
  for (let i = state.answers.length; i < at; i++) state.answers[i] = null;
  state.answers[at] = { ...given, seconds, time: new Date().toISOString() };
  keep();
  goOn();
}

function answer(value) {
  if (ready) record({ answer: study.mode === "grades" ? Number(value) : value });
}

function goOn() {
  const open = firstOpen();
  if (open < 0) finish();
  else show(open);
}

function goBack() {
  if (!$("end").hidden) show(questions.length - 1);
  else if (!$("question").hidden && at > 0) show(at - 1);
}

// The end, and the file.

function finish() {
  ticket++;
  ready = false;
  delete document.body.dataset.ready;
  only("end");
  const count = answered();
  const whole = count === questions.length;
  $("count").textContent = `${count} of ${questions.length}`;
  $("progress").max = questions.length;
  $("progress").value = count;
  $("thanks").textContent = whole ? "Thank you. That was all." : `You have answered ${count} of ${questions.length}. That helps, too.`;
  $("return").textContent = whole ? "Go back" : "Go on";
  $("save").disabled = count === 0;
  $("saved").hidden = true;
  $("copy").value = JSON.stringify(exported());
  $("thanks").focus();
}

function exported() {
  const ratings = questions.flatMap((question, order) => {
    const given = state.answers[order];
    if (!given || given.skipped) return [];
    const value = study.mode === "grades" ? { grade: given.answer } : { preference: given.answer };
    return [{ order, ...question, ...value, seconds: given.seconds, time: given.time }];
  });
  const { session, seed, started } = state;
  const rater = $("rater").value.trim();
  return { format: "ratings", version: 1, study: study.id, mode: study.mode, session, rater, seed, started, planned: questions.length, ratings };
}

function save() {
  const name = `ratings-${study.id.slice(0, 6)}-${state.session.slice(0, 6)}.json`;
  const url = URL.createObjectURL(new Blob([JSON.stringify(exported(), null, 1)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  $("saved").querySelector("strong").textContent = name;
  $("saved").hidden = false;
  saved = true;
}

function beginAgain() {
  const lost = answered() > 0 && !(saved && !$("saved").hidden);
  if (lost && !confirm("This deletes the answers that are kept here. Save them first if they are wanted. Delete them?")) return;
  state = fresh();
  questions = plan(study.items, study.mode, state.seed);
  $("rater").value = "";
  keep();
  saved = true;
  welcome();
}

function welcome() {
  only("welcome");
  const count = answered();
  const minutes = Math.max(1, Math.round((questions.length - count) * (study.mode === "pairs" ? 8 : 6) / 60));
  $("length").textContent = `${questions.length} questions${count ? `, ${count} already answered` : ""}: about ${minutes} minute${minutes === 1 ? "" : "s"}.`;
  $("count").textContent = "";
  $("progress").max = questions.length;
  $("progress").value = count;
  $("start").textContent = count ? "Continue" : "Start";
  $("anew").hidden = count === 0;
}

// Enlarged: the same place of each picture, one after the other.

const dialog = document.querySelector("dialog");
let enlarged = null;

async function enlarge(name) {
  const image = figures.get(name).querySelector("img");
  const zoom = Math.max(1 / devicePixelRatio, zoomWithin(innerWidth - 16, innerHeight - 64));
  const large = dialog.querySelector("img");
  enlarged = name;
  large.src = image.src;
  large.alt = image.alt;
  await large.decode();
  resize(large, zoom);
  $("shown").textContent = image.alt;
  if (!dialog.open) dialog.showModal();
  dialog.querySelector(".scroll").focus();
}

function enlargeNext() {
  const names = [...figures].filter(([, figure]) => !figure.hidden).map(([name]) => name);
  enlarge(names[(names.indexOf(enlarged) + 1) % names.length]);
}

dialog.addEventListener("keydown", (event) => {
  if (event.key === " ") enlargeNext();
  else if (event.key.toLowerCase() === "z") dialog.close();
  else return;
  event.preventDefault();
});
dialog.addEventListener("click", (event) => {
  if (event.target.tagName === "IMG") enlargeNext();
  else if (event.target === dialog || event.target.closest("#close")) dialog.close();
});

// Mouse, keys, window.

const KEYS = study.mode === "grades"
  ? { 1: "1", 2: "2", 3: "3", 4: "4" }
  : { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "none" };

addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
  if (event.target.matches("input, textarea")) return;
  const asking = !$("question").hidden;
  if (event.key === "Backspace") goBack();
  else if (asking && event.key in KEYS) answer(KEYS[event.key]);
  else if (asking && event.key.toLowerCase() === "z") enlarge(study.mode === "pairs" ? "left" : "result");
  else if (asking && event.key === "Enter" && !$("forward").hidden && event.target === document.body) goOn();
  else return;
  event.preventDefault();
});

for (const button of document.querySelectorAll("[data-answer]")) {
  button.addEventListener("click", () => {
    button.blur();
    answer(button.dataset.answer);
  });
}
for (const [name, figure] of figures) figure.querySelector("button").addEventListener("click", () => enlarge(name));
$("start").addEventListener("click", () => {
  $("start").blur();
  goOn();
});
$("anew").addEventListener("click", beginAgain);
$("next-person").addEventListener("click", beginAgain);
$("back").addEventListener("click", goBack);
$("forward").addEventListener("click", goOn);
$("skip").addEventListener("click", () => record({ skipped: true }));
$("stop").addEventListener("click", finish);
$("return").addEventListener("click", () => (firstOpen() < 0 ? goBack() : goOn()));
$("save").addEventListener("click", save);
$("rater").addEventListener("input", () => { $("copy").value = JSON.stringify(exported()); });
$("rater").addEventListener("keydown", (event) => event.key === "Enter" && !$("save").disabled && save());
addEventListener("resize", () => !$("question").hidden && arrange());
document.addEventListener("visibilitychange", () => {
  if (document.hidden && since !== null) {
    seen += performance.now() - since;
    since = null;
  } else if (!document.hidden && since === null) since = performance.now();
});
addEventListener("beforeunload", (event) => {
  if (refused && !saved) event.preventDefault();
});

if (state.answers.length > questions.length) state.answers.length = questions.length;
$("unkept").hidden = !refused;
welcome();
