'use strict';
// The viewer: the images of one key, all at once, under a loupe, in pairs, or as errors and maps.

const FLICKER_MS = 500;
/** @type {{dialog: HTMLDialogElement, modes: [string, string][], timer: number}} */
const viewer = { dialog: find('#viewer'), modes: [], timer: 0 };

/** Open the viewer. @param {string} key @param {string} [label] the image that was asked for */
function openViewer(key, label) {
  const scene = scenes[sceneOf.get(key) ?? 0];
  const asked = label && scene.images.find((image) => image.label === label);
  if (!asked) return change({ key });
  const [left] = pairOf(entriesOf(scene));
  change({ key, right: label, whole: label, left: left?.label === label ? '' : state.left });
}

/** The scene that is shown, undefined when the viewer is closed. */
function sceneShown() {
  const place = sceneOf.get(state.key);
  return place === undefined ? undefined : scenes[place];
}

/** How this scene can be compared; a mode that it lacks is the first one. @param {Scene} scene */
function modesOf(scene) {
  const maps = new Set(scenes.flatMap(({ images }) => images.flatMap((image) => Object.keys(image.maps))));
  viewer.modes = [
    ['all', 'All'], ['loupe', 'Loupe'], ['slide', 'Slider'], ['flicker', 'Flicker'], ['error', 'Error'],
    ...[...maps].map((name) => /** @type {[string, string]} */ ([`map:${name}`, name])),
  ];
  const pictured = entriesOf(scene).filter((entry) => entry.image);
  const possible = (/** @type {string} */ mode) => {
    if (mode === 'slide' || mode === 'flicker') return pictured.length > 1;
    if (mode === 'error') return pictured.some(({ role }) => role === 'hr');
    if (mode.startsWith('map:')) return scene.images.some(({ maps: own }) => own[mode.slice(4)]);
    return true;
  };
  const now = viewer.modes.some(([mode]) => mode === state.mode && possible(mode)) ? state.mode : 'all';
  return { now, possible };
}

/** The two that are compared: as chosen, else the first and the last method, else what there is. @param {Entry[]} entries */
function pairOf(entries) {
  const pictured = entries.filter((entry) => entry.image);
  const results = pictured.filter(({ role }) => role === 'sr');
  const others = [...results, ...pictured.filter(({ role }) => role === 'hr'), ...pictured];
  const named = (/** @type {string} */ label) => pictured.find((entry) => entry.label === label);
  const right = named(state.right) ?? (results.length > 1 ? results[results.length - 1] : others.find((entry) => entry !== others[0]));
  const left = named(state.left) ?? others.find((entry) => entry !== right);
  return [left, right];
}

/** Draw what the state says. */
function drawViewer() {
  const scene = sceneShown();
  if (!scene) {
    stopFlicker();
    if (viewer.dialog.open) viewer.dialog.close();
    return;
  }
  if (!viewer.dialog.open) viewer.dialog.showModal();
  const entries = entriesOf(scene);
  const { now, possible } = modesOf(scene);
  drawTools(scene, entries, now, possible);
  const shown = entries.filter(({ label }) => !state.hide.includes(label));
  viewer.dialog.dataset.mode = now.startsWith('map:') ? 'map' : now;
  stage.size = sizeOf(scene);
  if (now === 'slide' || now === 'flicker') drawPair(entries, now);
  else if (now === 'error') setStage(withoutReference(shown).map((entry) => errorPane(entry, entries, shown)), stage.size, null);
  else if (now.startsWith('map:')) setStage(withoutReference(shown).map((entry) => mapPane(entry, now.slice(4), shown)), stage.size, null);
  else setStage(shown.map((entry) => plainPane(entry, shown)), stage.size, now === 'loupe' ? wholePane(entries) : null);
  if (now !== 'flicker') stopFlicker();
}

/** @param {Scene} scene @param {Entry[]} entries @param {string} now @param {(mode: string) => boolean} possible */
function drawTools(scene, entries, now, possible) {
  find('#viewer-key').textContent = scene.key;
  const order = galleryOrder();
  const place = order.indexOf(scene);
  find('#viewer-place').textContent = place < 0 ? '' : `${place + 1} of ${order.length}`;
  find('#modes').replaceChildren(...viewer.modes.map(([mode, text]) => make('button', {
    type: 'button', 'aria-pressed': String(mode === now), disabled: !possible(mode), onclick: () => change({ mode }),
  }, text)));
  const options = entries.filter((entry) => entry.image).map(({ label }) => /** @type {[string, string]} */ ([label, label]));
  const [left, right] = pairOf(entries);
  for (const [id, label] of [['left', left?.label], ['right', right?.label], ['whole', wholeOf(entries)?.label]]) {
    const select = find(`#${id}`);
    fill(select, options);
    select.value = label;
  }
}

/** @param {Entry[]} entries */
function withoutReference(entries) {
  return entries.filter(({ role }) => role === 'sr');
}

/** @param {Entry[]} entries */
function wholeOf(entries) {
  const pictured = entries.filter((entry) => entry.image);
  return pictured.find(({ label }) => label === state.whole) ?? pictured[pictured.length - 1];
}

/** @param {Image} image @param {'' | 'left' | 'difference'} [kind] @returns {Layer} */
function layer(image, kind = '') {
  return { image, source: image.source, kind };
}

/** @param {Entry} entry @param {Entry[]} rivals @returns {Pane} */
function plainPane(entry, rivals) {
  return { entry, layers: entry.image ? [layer(entry.image)] : [], caption: captionOf(entry, rivals) };
}

/** @param {Entry[]} entries @returns {Pane?} */
function wholePane(entries) {
  const entry = wholeOf(entries);
  return entry ? plainPane(entry, entries) : null;
}

/** |SR − HR|: the browser blends the two, so that nothing has to be read. @param {Entry} entry @param {Entry[]} entries @param {Entry[]} rivals @returns {Pane} */
function errorPane(entry, entries, rivals) {
  const reference = entries.find(({ role }) => role === 'hr')?.image;
  const layers = entry.image && reference ? [layer(entry.image), layer(reference, 'difference')] : [];
  return { entry, layers, caption: captionOf(entry, rivals) };
}

/** @param {Entry} entry @param {string} name @param {Entry[]} rivals @returns {Pane} */
function mapPane(entry, name, rivals) {
  const source = entry.image?.maps[name];
  const layers = entry.image && source ? [{ ...layer(entry.image), source }] : [];
  const reason = entry.reason || `no ${name}`;
  return { entry: { ...entry, reason }, layers, caption: captionOf(entry, rivals) };
}

/** Two images one upon the other. @param {Entry[]} entries @param {string} mode */
function drawPair(entries, mode) {
  const [left, right] = pairOf(entries);
  if (!left?.image || !right?.image) return;
  const caption = [left, right].map((entry, side) =>
    make('span', { class: side ? 'on-the-right' : 'on-the-left' }, ...captionOf(entry, [left, right])));
  setStage([{ entry: right, layers: [layer(right.image), layer(left.image, 'left')], caption }], stage.size, null);
  if (mode === 'slide') find('.window', stage.element).append(dividerElement());
}

/** The line of the slider, to be drawn with the pointer; the range below serves the keyboard. */
function dividerElement() {
  const divider = make('div', { class: 'divider' });
  const move = (/** @type {PointerEvent} */ event) => {
    const box = divider.parentElement.getBoundingClientRect();
    change({ slide: Math.min(100, Math.max(0, (100 * (event.clientX - box.left)) / box.width)) });
  };
  divider.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => {
    if (divider.hasPointerCapture(event.pointerId)) move(event);
  });
  return divider;
}

/** The label with its numbers, the best of those shown in bold. @param {Entry} entry @param {Entry[]} rivals */
function captionOf(entry, rivals) {
  const { label, image, row } = entry;
  const name = make('strong', { class: `method ${colourOf(label)}` }, label);
  if (row === NONE || !image) return [name, make('span', { class: 'unit' }, image ? image.size.join(' × ') : 'no image')];
  const numbers = primary.map((metric) => make('span', { class: isBest(metric, row, rivals.map((rival) => rival.row)) ? 'best' : '' },
    make('span', { class: 'unit' }, `${metric.label} `), textOf(metric, numberOf(metric.name, row))));
  return [name, make('span', { class: 'numbers' }, ...numbers)];
}

/** Show the left image of the flicker, or the right. @param {boolean} left */
function flick(left) {
  stage.element.classList.toggle('on-left', left);
}

function stopFlicker() {
  clearInterval(viewer.timer);
  viewer.timer = 0;
  find('#automatic').checked = false;
  flick(false);
}

/** The next or previous image, in the gallery's order. @param {number} by */
function stepScene(by) {
  const order = galleryOrder();
  const place = order.findIndex(({ key }) => key === state.key);
  if (order.length) change({ key: order[(place + by + order.length) % order.length].key });
}

/** Another method where there is a choice: on the right of a pair, or the loupe's whole. @param {number} by */
function stepMethod(by) {
  const scene = sceneShown();
  if (!scene) return;
  const pictured = entriesOf(scene).filter((entry) => entry.image);
  const name = viewer.dialog.dataset.mode === 'loupe' ? 'whole' : 'right';
  const place = pictured.findIndex(({ label }) => label === find(`#${name}`).value);
  change({ [name]: pictured[(place + by + pictured.length) % pictured.length].label });
}

function startViewer() {
  startPanes();
  for (const button of viewer.dialog.querySelectorAll('[data-step]')) {
    button.addEventListener('click', () => stepScene(Number(/** @type {HTMLElement} */ (button).dataset.step)));
  }
  for (const button of viewer.dialog.querySelectorAll('[data-zoom]')) {
    button.addEventListener('click', () => zoomBy(Number(/** @type {HTMLElement} */ (button).dataset.zoom)));
  }
  find('#viewer-close').addEventListener('click', () => viewer.dialog.close());
  viewer.dialog.addEventListener('close', () => change({ key: '', zoom: 0, x: 0.5, y: 0.5 }));
  for (const name of /** @type {('left' | 'right' | 'whole')[]} */ (['left', 'right', 'whole'])) {
    find(`#${name}`).addEventListener('change', () => change({ [name]: find(`#${name}`).value }));
  }
  const hold = find('#hold');
  hold.addEventListener('pointerdown', () => flick(true));
  for (const end of ['pointerup', 'pointerleave', 'pointercancel']) hold.addEventListener(end, () => flick(false));
  find('#automatic').addEventListener('change', () => {
    clearInterval(viewer.timer);
    flick(false);
    if (!find('#automatic').checked) return;
    viewer.timer = setInterval(() => flick(!stage.element.classList.contains('on-left')), FLICKER_MS);
  });
  bind(find('#slide'), 'slide');
  bind(find('#gain'), 'gain');
  whenever(['slide'], () => stage.element.style.setProperty('--slide', `${state.slide}%`));
  whenever(['gain'], () => stage.element.style.setProperty('--gain', String(state.gain)));
  whenever(['key', 'mode', 'left', 'right', 'whole', 'hide'], drawViewer);
  whenever(['zoom', 'x', 'y'], () => viewer.dialog.open && drawCrop());
}
