"use strict";

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
  $("thanks").textContent = whole ? "Thank you. You have answered all questions." : `You have answered ${count} of ${questions.length}. These answers count, too.`;
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

// Enlarged: the same place of each image, one after the other.

const dialog = document.querySelector("dialog");
let enlarged = null;

async function enlarge(name) {
  const img = figures.get(name).querySelector("img");
  const zoom = Math.max(1 / devicePixelRatio, zoomWithin(innerWidth - 16, innerHeight - 64));
  const large = dialog.querySelector("img");
  enlarged = name;
  large.src = img.src;
  large.alt = img.alt;
  try {
    await large.decode();
  } catch { // another one was asked for meanwhile
    return;
  }
  if (enlarged !== name) return;
  resize(large, zoom);
  $("shown").textContent = img.alt;
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
