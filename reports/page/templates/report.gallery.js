'use strict';
// The gallery: the scenes in rows, chosen, sorted and found.

const ROWS_AT_ONCE = 24;
const SMALL = 256;
const LARGE = 320;
const gallery = { order: /** @type {Scene[]} */ ([]), drawn: 0 };

/** The scenes that are shown, in their order. */
function galleryOrder() {
  return gallery.order;
}

/** What the gallery is sorted by, NaN for none: a number of a method, or of all, perhaps less that of another. @param {Scene} scene */
function sortValue(scene) {
  const mean = (/** @type {string} */ name) => {
    const values = (name ? [name] : methods).map((method) => numberOf(state.sort, rowOf(scene.key, method)));
    const there = values.filter((value) => !Number.isNaN(value));
    return there.length ? there.reduce((sum, value) => sum + value) / there.length : NaN;
  };
  return state.over ? mean(state.of) - mean(state.over) : mean(state.of);
}

function orderGallery() {
  const wanted = state.find.toLowerCase();
  let chosen = scenes.filter(({ key }) => key.toLowerCase().includes(wanted));
  if (state.sort) {
    const metric = metricNamed(state.sort);
    const valued = chosen.map((scene) => ({ scene, value: sortValue(scene) }));
    const sign = state.first === 'best' ? 1 : -1;
    valued.sort((a, b) => {
      const either = Number.isNaN(a.value) || Number.isNaN(b.value) ? 1 : sign; // none comes last, either way
      return either * betterFirst(metric, a.value, b.value);
    });
    chosen = valued.map(({ scene }) => scene);
  }
  gallery.order = state.most > 0 ? chosen.slice(0, state.most) : chosen;
  drawGallery();
}

function drawGallery() {
  gallery.drawn = 0;
  find('#rows').replaceChildren();
  const count = gallery.order.length;
  const some = count === scenes.length ? '' : ` of ${scenes.length}`;
  const elsewhere = keys.length > scenes.length ? `; ${keys.length - scenes.length} more are in the table below, without images` : '';
  find('#gallery-note').textContent = `${count}${some} image${count === 1 ? '' : 's'}${elsewhere}. Click one to compare.`;
  drawMoreRows();
}

/** The next rows; those far down are made when they are asked for. */
function drawMoreRows() {
  const next = gallery.order.slice(gallery.drawn, gallery.drawn + ROWS_AT_ONCE);
  find('#rows').append(...next.map(rowElement));
  gallery.drawn += next.length;
  const left = gallery.order.length - gallery.drawn;
  find('#more-rows').hidden = left === 0;
  find('#more-rows').textContent = `Show ${Math.min(left, ROWS_AT_ONCE)} more of ${left}`;
}

/** @param {Scene} scene */
function rowElement(scene) {
  const size = sizeOf(scene);
  const shown = entriesOf(scene).filter(({ label }) => !state.hide.includes(label));
  const column = size[0] <= SMALL ? size[0] * Math.floor(SMALL / size[0]) : Math.min(size[0], LARGE);
  const figures = make('div', { class: 'figures' }, ...shown.map((entry) => figureElement(scene, entry, shown, size, column)));
  figures.style.setProperty('--column', `${column}px`);
  figures.style.setProperty('--count', String(shown.length));
  return make('article', { class: 'row' }, make('h3', {}, scene.key, ...sortedBy(scene)), figures);
}

/** What a row's place comes from. @param {Scene} scene */
function sortedBy(scene) {
  if (!state.sort) return [];
  const metric = metricNamed(state.sort);
  const value = sortValue(scene);
  const sign = state.over && value > 0 ? '+' : '';
  return [make('span', { class: 'unit' }, ` ${metric.label} ${sign}${textOf(metric, value)} ${metric.unit}`)];
}

/** @param {Scene} scene @param {Entry} entry @param {Entry[]} shown @param {[number, number]} size @param {number} column */
function figureElement(scene, entry, shown, size, column) {
  const { label, image, reason } = entry;
  const caption = make('figcaption', {}, ...captionOf(entry, shown));
  if (!image) {
    const lacking = make('div', { class: 'lacking' }, reason);
    lacking.style.aspectRatio = `${size[0]} / ${size[1]}`;
    return make('figure', {}, lacking, caption);
  }
  const img = make('img', {
    alt: '', loading: 'lazy', decoding: 'async', width: size[0], height: size[1], src: image.thumbnail ?? image.source,
    class: image.size[0] < column ? 'pixelated' : '',
  });
  const open = () => openViewer(scene.key, label);
  return make('figure', {}, make('button', { type: 'button', class: 'open', 'aria-label': `Compare ${label} of ${scene.key}`, onclick: open }, img), caption);
}

/** A checkbox for everything that has a place in the gallery. */
function drawLabels() {
  const labels = [...new Set([...scenes.flatMap(({ images }) => images.map(({ label }) => label)), ...methods])];
  find('#labels').append(...labels.map((label) => {
    const box = make('input', { type: 'checkbox', value: label, checked: true });
    box.addEventListener('change', () => change({ hide: box.checked ? state.hide.filter((name) => name !== label) : [...state.hide, label] }));
    whenever(['hide'], () => { box.checked = !state.hide.includes(label); });
    return make('label', {}, box, make('span', { class: `method ${colourOf(label)}` }, label));
  }));
}

function startGallery() {
  drawLabels();
  fill(find('#sort-metric'), [['', 'Default order'], ...metrics.map(({ name, label }) => /** @type {[string, string]} */ ([name, label]))]);
  const named = methods.map((method) => /** @type {[string, string]} */ ([method, method]));
  fill(find('#sort-method'), [['', 'all methods'], ...named]);
  fill(find('#sort-over'), [['', 'nothing'], ...named]);
  fill(find('#most'), [['0', 'all'], ['5', '5'], ['10', '10'], ['20', '20'], ['50', '50']]);
  bind(find('#sort-metric'), 'sort');
  bind(find('#sort-method'), 'of');
  bind(find('#sort-over'), 'over');
  bind(find('#sort-first'), 'first');
  bind(find('#most'), 'most');
  bind(find('#find'), 'find');
  find('#gallery-controls').addEventListener('submit', (/** @type {Event} */ event) => {
    event.preventDefault();
    if (gallery.order.length) openViewer(gallery.order[0].key);
  });
  find('#more-rows').addEventListener('click', drawMoreRows);
  whenever(['sort'], () => {
    for (const id of ['#sort-method', '#sort-over', '#sort-first']) find(id).disabled = !state.sort;
  });
  whenever(['sort', 'of', 'over', 'first', 'most', 'find', 'hide'], orderGallery);
}
