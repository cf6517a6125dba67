'use strict';
// The stage of the viewer: panes that show one crop of several images, at one zoom, moved together.

/** An image within a pane. `kind` says to the style what it is there for. @typedef {{image: Image, source: string, kind: '' | 'left' | 'difference'}} Layer */
/** @typedef {{entry: Entry, layers: Layer[], caption: Node[]}} Pane */

const LEVELS = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
const WHEEL_STEP = 60;
const LOUPE = 3;

const stage = {
  /** @type {HTMLElement} */ element: find('#stage'),
  /** @type {[number, number]} of the scene */ size: [1, 1],
  count: 1,
};

/** Fill the stage. @param {Pane[]} panes @param {[number, number]} size @param {Pane?} whole beside them, with a frame around the crop */
function setStage(panes, size, whole) {
  stage.size = size;
  stage.count = panes.length;
  const crops = make('div', { class: 'panes' }, ...panes.map(paneElement));
  stage.element.replaceChildren(...(whole ? [make('div', { class: 'whole' }, paneElement(whole))] : []), crops);
  if (whole) find('.whole .window', stage.element).append(make('div', { class: 'frame' }));
  layOut();
}

/** @param {Pane} pane */
function paneElement({ entry, layers, caption }) {
  const [width, height] = stage.size;
  const images = layers.map(({ image, source, kind }) => {
    const img = make('img', { src: source, alt: '', draggable: false, width, height });
    img.dataset.own = String(image.size[0] / width);
    return make('div', { class: `layer ${kind}` }, img);
  });
  const content = layers.length ? images : [make('p', { class: 'lacking' }, entry.reason)];
  const named = layers.map(({ image }) => image.label).join(' and ') || entry.label;
  const frame = make('div', { class: 'window', role: 'img', 'aria-label': `${named}, ${state.key}` }, ...content);
  return make('figure', { class: `pane ${colourOf(entry.label)}` }, frame, make('figcaption', {}, ...caption));
}

/** Give the panes as many columns as make them largest, then draw the crop. */
function layOut() {
  const area = /** @type {HTMLElement?} */ (stage.element.querySelector('.panes'));
  if (!area?.firstElementChild) return;
  const caption = find('figcaption', area).offsetHeight + 20;
  const [width, height] = stage.size;
  let [columns, largest] = [1, 0];
  for (let n = 1; n <= stage.count; n++) {
    const fit = Math.min(area.clientWidth / n / width, (area.clientHeight / Math.ceil(stage.count / n) - caption) / height);
    if (fit > largest) [columns, largest] = [n, fit];
  }
  area.style.setProperty('--columns', String(columns));
  drawCrop();
}

/** The zoom at which all of an image is seen: whole pixels where it is enlarged. @param {Element} frame */
function fitOf(frame) {
  const fit = Math.min(frame.clientWidth / stage.size[0], frame.clientHeight / stage.size[1]);
  return fit >= 1 ? Math.floor(fit) : fit;
}

/** The smallest zoom of the panes: all of the image, or in the loupe a part of it. */
function leastZoom() {
  const whole = stage.element.querySelector('.whole .window');
  const frame = find('.panes .window', stage.element);
  return whole ? LEVELS.find((level) => level >= LOUPE * fitOf(whole)) ?? 32 : fitOf(frame);
}

/** The zoom of the panes, in screen pixels for one of the scene. */
function zoomNow() {
  return Math.max(state.zoom, leastZoom());
}

/** A centre for which no more than necessary beside the image is seen. @param {number} centre @param {number} shown part of the image that is seen */
function held(centre, shown) {
  return shown >= 1 ? 0.5 : Math.min(Math.max(centre, shown / 2), 1 - shown / 2);
}

/** The crop: zoom, centre as parts of the image, and how much of it is seen. */
function crop() {
  const frame = find('.panes .window', stage.element);
  const zoom = zoomNow();
  const [wide, tall] = [frame.clientWidth / (stage.size[0] * zoom), frame.clientHeight / (stage.size[1] * zoom)];
  return { zoom, x: held(state.x, wide), y: held(state.y, tall), wide: Math.min(1, wide), tall: Math.min(1, tall) };
}

/** Move every image to the crop that the state says. */
function drawCrop() {
  if (!stage.element.querySelector('.panes .window')) return;
  const { zoom, x, y, wide, tall } = crop();
  for (const frame of stage.element.querySelectorAll('.panes .window')) place(frame, zoom, x, y);
  const whole = stage.element.querySelector('.whole .window');
  if (whole) {
    const fit = fitOf(whole);
    place(whole, fit, 0.5, 0.5);
    const [width, height] = [stage.size[0] * fit, stage.size[1] * fit];
    Object.assign(find('.frame', whole).style, {
      left: `${(whole.clientWidth - width) / 2 + (x - wide / 2) * width}px`,
      top: `${(whole.clientHeight - height) / 2 + (y - tall / 2) * height}px`,
      width: `${wide * width}px`,
      height: `${tall * height}px`,
    });
  }
  find('#zoom').textContent = `${Math.round(zoom * 100)} %`;
}

/** @param {Element} frame @param {number} zoom @param {number} x @param {number} y */
function place(frame, zoom, x, y) {
  const left = Math.round(frame.clientWidth / 2 - x * stage.size[0] * zoom);
  const top = Math.round(frame.clientHeight / 2 - y * stage.size[1] * zoom);
  for (const img of frame.querySelectorAll('img')) {
    img.style.transform = `translate(${left}px, ${top}px) scale(${zoom})`;
    img.classList.toggle('pixelated', zoom / Number(img.dataset.own) >= 1);
  }
}

/**
 * Zoom by steps, keeping what is under a point of a pane where it is; 0 steps fit.
 * @param {number} steps
 * @param {{frame: Element, x: number, y: number}} [at] screen pixels from the pane's middle
 */
function zoomBy(steps, at) {
  if (!stage.count) return;
  const { zoom, x, y } = crop();
  const least = leastZoom();
  const levels = [least, ...LEVELS.filter((level) => level > least)];
  const next = steps > 0 ? levels.find((level) => level > zoom + 1e-6) : levels.findLast((level) => level < zoom - 1e-6);
  if (steps === 0) change({ zoom: 0, x: 0.5, y: 0.5 });
  else if (next !== undefined) zoomTo(next === least ? 0 : next, x, y, zoom, at);
}

/** @param {number} next @param {number} x @param {number} y @param {number} zoom @param {{x: number, y: number}} [at] */
function zoomTo(next, x, y, zoom, at = { x: 0, y: 0 }) {
  const by = 1 / zoom - 1 / (next || leastZoom());
  change({ zoom: next, x: x + (at.x * by) / stage.size[0], y: y + (at.y * by) / stage.size[1] });
}

/** Move the crop by screen pixels. @param {number} right @param {number} down */
function moveBy(right, down) {
  if (!stage.count) return;
  const { zoom, x, y, wide, tall } = crop();
  change({ x: held(x + right / (stage.size[0] * zoom), wide), y: held(y + down / (stage.size[1] * zoom), tall) });
}

/** Listen to pointer and wheel. */
function startPanes() {
  /** @type {Map<number, PointerEvent>} */
  const down = new Map();
  let turned = 0;
  stage.element.addEventListener('pointerdown', (event) => {
    const on = /** @type {Element} */ (event.target);
    if (!on.closest('.window') || on.closest('.divider') || event.button) return;
    stage.element.setPointerCapture(event.pointerId);
    down.set(event.pointerId, event);
    if (on.closest('.whole')) lookAt(event);
  });
  stage.element.addEventListener('pointermove', (event) => {
    const last = down.get(event.pointerId);
    const whole = stage.element.querySelector('.whole');
    if (whole?.contains(document.elementFromPoint(event.clientX, event.clientY))) lookAt(event);
    else if (last && down.size === 1) moveBy(last.clientX - event.clientX, last.clientY - event.clientY);
    else if (last) pinch(last, event);
    if (last) down.set(event.pointerId, event);
  });
  for (const end of ['pointerup', 'pointercancel']) {
    stage.element.addEventListener(end, (event) => down.delete(/** @type {PointerEvent} */ (event).pointerId));
  }
  stage.element.addEventListener('wheel', (event) => {
    event.preventDefault();
    const frame = /** @type {Element} */ (event.target).closest('.window');
    turned += event.deltaY * (event.deltaMode ? 20 : 1) * (event.ctrlKey ? 5 : 1);
    if (!frame || Math.abs(turned) < WHEEL_STEP) return;
    const box = frame.getBoundingClientRect();
    const middle = { x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2 };
    zoomBy(-Math.sign(turned), frame.closest('.whole') ? undefined : { frame, ...middle });
    turned = 0;
  }, { passive: false });
  new ResizeObserver(layOut).observe(stage.element);

  /** Two fingers: their distance zooms. @param {PointerEvent} last @param {PointerEvent} event */
  function pinch(last, event) {
    const other = [...down.values()].find(({ pointerId }) => pointerId !== event.pointerId);
    if (!other) return;
    const apart = (/** @type {PointerEvent} */ one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const zoom = zoomNow() * (apart(event) / Math.max(1, apart(last)));
    change({ zoom: zoom <= leastZoom() ? 0 : Math.min(32, zoom) });
  }

  /** The loupe: its middle is where the pointer is on the whole image. @param {PointerEvent} event */
  function lookAt(event) {
    const frame = find('.whole .window', stage.element);
    const box = frame.getBoundingClientRect();
    const fit = fitOf(frame);
    const { wide, tall } = crop();
    change({
      x: held(0.5 + (event.clientX - box.left - box.width / 2) / (stage.size[0] * fit), wide),
      y: held(0.5 + (event.clientY - box.top - box.height / 2) / (stage.size[1] * fit), tall),
    });
  }
}
