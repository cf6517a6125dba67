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

// Never two questions of one image in a row, as long as there is another way.
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
