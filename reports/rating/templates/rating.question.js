"use strict";

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
  return Object.fromEntries(Object.entries(ids).filter(([, id]) => id).map(([name, id]) => [name, study.images[id]]));
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
    const img = figure.querySelector("img");
    if (!sources[name]) continue;
    img.src = sources[name];
    loading.push(img.decode());
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

// Every image of a question at one size, enlarged by whole device pixels where it fits: no method gains by smoothing.
const mainImage = () => figures.get(study.mode === "pairs" ? "left" : "result").querySelector("img");

function zoomWithin(width, height) {
  const { naturalWidth, naturalHeight } = mainImage();
  const pixels = Math.min(width / naturalWidth, height / naturalHeight) * devicePixelRatio;
  return (pixels >= 1 ? Math.floor(pixels + 1e-6) : pixels) / devicePixelRatio;
}

function resize(img, zoom) {
  const { naturalWidth, naturalHeight } = mainImage();
  img.style.width = `${naturalWidth * zoom}px`;
  img.style.height = `${naturalHeight * zoom}px`;
  img.classList.toggle("pixelated", naturalWidth * zoom * devicePixelRatio >= img.naturalWidth);
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
  $("scale").textContent = share >= 1 ? "" : `Shown at ${Math.round(100 * share)} %. Enlarge it to see every pixel.`;
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
