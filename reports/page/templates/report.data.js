'use strict';
// The numbers and images of this report, as reports/page/data.py wrote them, and how a number is read.

/** @typedef {{name: string, label: string, unit: string, better: 'higher' | 'lower', form: string, arrow: string}} Metric */
/** @typedef {{label: string, role: 'lr' | 'sr' | 'hr', source: string, size: [number, number], thumbnail: string?, maps: Record<string, string>}} Image */
/** @typedef {{key: string, images: Image[]}} Scene */
/** What stands in one place of a scene: an image, or why there is none. @typedef {{label: string, role: string, image: Image?, row: number, reason: string}} Entry */

const NONE = -1;
const COLOURS = 8;
const words = new Intl.Collator(undefined, { numeric: true });

/**
 * The one element that a selector names.
 * @param {string} selector
 * @param {ParentNode} [within]
 * @returns {any}
 */
function find(selector, within = document) {
  const found = within.querySelector(selector);
  if (!found) throw new Error(`the page lacks ${selector}`);
  return found;
}

const report = JSON.parse(find('#data').textContent);
/** @type {string[]} */
const methods = report.methods;
/** @type {string[]} */
const keys = report.keys;
/** @type {Metric[]} */
const metrics = report.metrics;
/** @type {Metric[]} */
const primary = metrics.filter((metric) => report.primary.includes(metric.name));
/** @type {Scene[]} */
const scenes = report.scenes;
const rows = report.rows;
const rowCount = rows.key.length;
/** @type {Map<string, number[]>} A column of numbers a metric; NaN for none. */
const columns = new Map(metrics.map(({ name }) =>
  [name, rows[`metric:${name}`].map((/** @type {any} */ value) => (value === null ? NaN : Number(value)))]));
const sceneOf = new Map(scenes.map((scene, place) => [scene.key, place]));
const keyPlace = new Map(keys.map((key, place) => [key, place]));
const methodPlace = new Map(methods.map((method, place) => [method, place]));
const rowPlaces = new Int32Array(keys.length * methods.length).fill(NONE);
for (let row = 0; row < rowCount; row++) rowPlaces[rows.key[row] * methods.length + rows.method[row]] = row;

/** The row of a key and a method, or NONE. @param {string} key @param {string} method */
function rowOf(key, method) {
  const [k, m] = [keyPlace.get(key), methodPlace.get(method)];
  return k === undefined || m === undefined ? NONE : rowPlaces[k * methods.length + m];
}

/** A number of a row, NaN for none. @param {string} metric @param {number} row */
function numberOf(metric, row) {
  return row === NONE ? NaN : columns.get(metric)?.[row] ?? NaN;
}

/** @param {string} name @returns {Metric} */
function metricNamed(name) {
  return metrics.find((metric) => metric.name === name) ?? metrics[0];
}

/**
 * A number as people read it: a dash for none, ∞ for infinite. Knows the forms of Python that metrics use: .2f .2e .3g
 * @param {Metric} metric
 * @param {number} value
 */
function textOf(metric, value) {
  if (Number.isNaN(value)) return '–';
  if (!Number.isFinite(value)) return '∞';
  const [, digits, kind] = /\.(\d+)([efg])$/.exec(metric.form) ?? [null, '4', 'g'];
  if (kind === 'f') return value.toFixed(Number(digits));
  if (kind === 'g') return String(Number(value.toPrecision(Number(digits))));
  return value.toExponential(Number(digits)).replace(/e([+-])(\d)$/, 'e$10$2');
}

/** Negative where a is better than b; numbers come before none. @param {Metric} metric @param {number} a @param {number} b */
function betterFirst(metric, a, b) {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  if (a === b) return 0;
  return (a > b) === (metric.better === 'higher') ? -1 : 1;
}

/**
 * Everything that has a place in a scene: its images, and before HR the methods that have none, with their reason.
 * An image of other proportions than the scene's is a reason, too, and is never stretched to fit.
 * @param {Scene} scene
 * @returns {Entry[]}
 */
function entriesOf(scene) {
  const size = sizeOf(scene);
  const entries = scene.images.map((image) => {
    const row = image.role === 'sr' ? rowOf(scene.key, image.label) : NONE;
    let reason = row === NONE ? '' : rows.error[row] ?? '';
    const fits = image.role === 'sr' ? image.size.join() === size.join() : isLike(image.size, size);
    if (!reason && !fits) reason = `${image.size.join('×')}, not ${image.role === 'sr' ? '' : 'like '}${size.join('×')}`;
    return { label: image.label, role: image.role, image: reason ? null : image, row, reason };
  });
  const there = new Set(entries.map((entry) => entry.label));
  const lacking = methods.filter((method) => !there.has(method) && rowOf(scene.key, method) !== NONE).map((label) => {
    const row = rowOf(scene.key, label);
    return { label, role: 'sr', image: null, row, reason: rows.error[row] ?? 'its image is not on this page' };
  });
  const last = entries.findIndex((entry) => entry.role === 'hr');
  entries.splice(last < 0 ? entries.length : last, 0, .../** @type {any[]} */ (lacking));
  return entries;
}

/** Have two sizes the same proportions, but for the rounding of the smaller? @param {[number, number]} small @param {[number, number]} large */
function isLike([width, height], [wide, tall]) {
  return Math.abs(width * tall - height * wide) <= Math.max(wide, tall);
}

/** Width and height of a scene: HR's, or without HR the largest image's that did not fail. @param {Scene} scene */
function sizeOf(scene) {
  const hr = scene.images.find((image) => image.role === 'hr');
  if (hr) return hr.size;
  const fine = scene.images.filter(({ role, label }) => role !== 'sr' || !rows.error[rowOf(scene.key, label)]);
  return fine.reduce((most, { size }) => (size[0] > most[0] ? size : most), /** @type {[number, number]} */ ([1, 1]));
}

/** Does this row's number print like the best of the rows? @param {Metric} metric @param {number} row @param {number[]} rivals */
function isBest(metric, row, rivals) {
  const values = rivals.map((rival) => numberOf(metric.name, rival)).filter((value) => !Number.isNaN(value));
  if (values.length < 2 || Number.isNaN(numberOf(metric.name, row))) return false;
  const best = values.sort((a, b) => betterFirst(metric, a, b))[0];
  return textOf(metric, numberOf(metric.name, row)) === textOf(metric, best);
}

/** The class that gives a method its colour, the same everywhere. @param {string} label */
function colourOf(label) {
  const place = methodPlace.get(label);
  return place === undefined ? 'm-none' : `m${place % COLOURS}`;
}

/**
 * An element. Text is always set as text, so that no name can become markup.
 * @param {string} tag
 * @param {Record<string, any>} [properties] as the element's own properties; `class` and `aria-…` and `data-…` as attributes
 * @param {...(Node | string)} children
 * @returns {any}
 */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'class' || name.includes('-')) element.setAttribute(name, value);
    else /** @type {any} */ (element)[name] = value;
  }
  element.append(...children);
  return element;
}

/**
 * Give a select its options.
 * @param {HTMLSelectElement} select
 * @param {[string, string][]} options value and text
 */
function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => make('option', { value }, text)));
}
