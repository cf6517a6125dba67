'use strict';
// What the reader has chosen. It always stands in the address, so that a link reproduces the view.

const START = {
  hide: /** @type {string[]} */ ([]), // labels that are not shown
  sort: '', of: '', over: '', first: 'worst', most: 0, find: '', // the gallery
  key: '', mode: 'all', left: '', right: '', whole: '', gain: 4, slide: 50, zoom: 0, x: 0.5, y: 0.5, // the viewer; zoom 0 fits
  spread: report.primary[0] ?? '', across: report.distortion, up: report.perception, // the charts
  tfind: '', tmethod: '', tstatus: '', tsort: '', torder: '', tpage: 0, // the table
};
/** @typedef {typeof START} State */
/** @type {State} */
const state = { ...START };

/** @type {{names: (keyof State)[], react: () => void}[]} */
const listeners = [];

/** Call `react` now, and whenever one of these parts of the state changes. @param {(keyof State)[]} names @param {() => void} react */
function whenever(names, react) {
  listeners.push({ names, react });
  react();
}

/** Change parts of the state. @param {Partial<State>} parts */
function change(parts) {
  const before = { ...state };
  Object.assign(state, parts);
  const changed = /** @type {(keyof State)[]} */ (Object.keys(START)).filter((name) => JSON.stringify(before[name]) !== JSON.stringify(state[name]));
  if (!changed.length) return;
  keepInAddress();
  for (const { names, react } of listeners) if (names.some((name) => changed.includes(name))) react();
}

let writing = 0;
/** Browsers refuse an address that changes too often, so it follows a moment later. */
function keepInAddress() {
  clearTimeout(writing);
  writing = setTimeout(writeAddress, 120);
}

function writeAddress() {
  clearTimeout(writing);
  writing = 0;
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (Array.isArray(value)) value.forEach((part) => said.append(name, part));
    else if (value !== START[/** @type {keyof State} */ (name)]) said.set(name, typeof value === 'number' ? String(Number(value.toFixed(6))) : value);
  }
  const link = String(said);
  if (link !== location.hash.slice(1)) history.replaceState(null, '', link ? `#${link}` : location.pathname + location.search);
}

/** The state that the address asks for; what it does not say is as at the start. */
function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const read = /** @type {Record<string, any>} */ ({ ...START });
  for (const [name, start] of Object.entries(START)) {
    if (!said.has(name)) continue;
    const text = said.get(name) ?? '';
    if (Array.isArray(start)) read[name] = said.getAll(name);
    else if (typeof start !== 'number') read[name] = text;
    else if (Number.isFinite(Number(text))) read[name] = Number(text);
  }
  change(read);
}

/** A control and a part of the state that follow one another. @param {any} control @param {keyof State} name @param {() => Partial<State>} [also] */
function bind(control, name, also = () => ({})) {
  const numeric = typeof START[name] === 'number';
  control.addEventListener('input', () => change({ [name]: numeric ? Number(control.value) : control.value, ...also() }));
  whenever([name], () => {
    if (control.value !== String(state[name])) control.value = String(state[name]);
  });
}
