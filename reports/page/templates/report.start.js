'use strict';
// Starts the parts of the page, and listens to keys, theme, printer and address.

const dark = matchMedia('(prefers-color-scheme: dark)');

/** From light to dark, or back; what the system wants is not written down. */
function turnTheme() {
  const root = document.documentElement;
  const now = root.dataset.theme ?? (dark.matches ? 'dark' : 'light');
  const next = now === 'dark' ? 'light' : 'dark';
  if ((next === 'dark') === dark.matches) delete root.dataset.theme;
  else root.dataset.theme = next;
  try {
    if (root.dataset.theme) localStorage.setItem(THEME, next);
    else localStorage.removeItem(THEME);
  } catch { /* a browser that keeps nothing */ }
  drawCharts();
}

/** Keys that work everywhere. @type {Record<string, () => void>} */
const pageKeys = {
  '?': () => find('#help').showModal(),
  t: turnTheme,
  '/': () => document.querySelector(/** @type {any} */ ('#find, #table-find'))?.focus(),
};

/** Keys of the viewer. @type {Record<string, () => void>} */
const viewerKeys = {
  ArrowLeft: () => stepScene(-1),
  ArrowRight: () => stepScene(1),
  ArrowUp: () => stepMethod(-1),
  ArrowDown: () => stepMethod(1),
  '+': () => zoomBy(1),
  '=': () => zoomBy(1),
  '-': () => zoomBy(-1),
  0: () => zoomBy(0),
  f: () => {
    if (viewer.dialog.dataset.mode !== 'flicker') change({ mode: 'flicker' });
    flick(viewer.dialog.dataset.mode === 'flicker');
  },
};

const MOVE = 40;
/** With Shift: the crop moves. @type {Record<string, [number, number]>} */
const moves = { ArrowLeft: [-MOVE, 0], ArrowRight: [MOVE, 0], ArrowUp: [0, -MOVE], ArrowDown: [0, MOVE] };

/** @param {KeyboardEvent} event */
function onKey(event) {
  const on = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || on.closest('input:not([type=checkbox]), select, textarea')) return;
  if (find('#help').open) return;
  const inViewer = viewer.dialog.open;
  const mode = inViewer && !event.repeat ? viewer.modes[Number(event.key) - 1] : undefined;
  let react = inViewer ? viewerKeys[event.key] ?? pageKeys[event.key] : pageKeys[event.key];
  if (inViewer && event.key === '/') react = () => {};
  if (inViewer && event.shiftKey && moves[event.key]) react = () => moveBy(...moves[event.key]);
  if (mode && modesOf(/** @type {Scene} */ (sceneShown())).possible(mode[0])) react = () => change({ mode: mode[0] });
  if (!react) return;
  event.preventDefault();
  react();
}

addEventListener('keydown', onKey);
addEventListener('keyup', (event) => event.key === 'f' && flick(false));
addEventListener('hashchange', readAddress);
addEventListener('pagehide', writeAddress);
addEventListener('beforeprint', () => {
  document.documentElement.classList.add('printing');
  for (const image of document.querySelectorAll('img')) image.loading = 'eager';
  charts.seen = rowCount > 0;
  drawCharts();
});
addEventListener('afterprint', () => {
  document.documentElement.classList.remove('printing');
  drawCharts();
});
dark.addEventListener('change', drawCharts);
find('#theme').addEventListener('click', turnTheme);
find('#help-open').addEventListener('click', () => find('#help').showModal());

if (scenes.length) startGallery();
startViewer();
if (rowCount) {
  startCharts();
  startTable();
}
readAddress();
