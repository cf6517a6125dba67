'use strict';
// The charts, drawn by Chart.js: how a metric is distributed, and distortion against perception.

const STRIP_UP_TO = 400;
const POINTS_PER_METHOD = 1500;
const BINS = 40;
const MARKS = ['circle', 'triangle', 'rect', 'rectRot', 'star', 'crossRot', 'cross', 'dash'];
/** @type {{plots: any[], seen: boolean}} */
const charts = { plots: [], seen: false };

/** A colour as the style has it now. @param {string} classes @param {string} [property] */
function colourNow(classes, property = 'color') {
  const probe = document.body.appendChild(make('span', { class: classes }));
  const colour = getComputedStyle(probe)[/** @type {any} */ (property)];
  probe.remove();
  return colour;
}

/** @param {string} colour as rgb(…) @param {number} alpha */
function faint(colour, alpha) {
  return colour.replace('rgb(', 'rgba(').replace(')', `, ${alpha})`);
}

/** The rows of a method that are ok and have all of these numbers. @param {string} method @param {string[]} names */
function measuredRows(method, names) {
  const place = methodPlace.get(method);
  const found = [];
  for (let row = 0; row < rowCount; row++) {
    if (rows.method[row] === place && rows.error[row] === null && names.every((name) => Number.isFinite(numberOf(name, row)))) found.push(row);
  }
  return found;
}

/** At most `most` of them, evenly chosen. @param {number[]} items @param {number} most */
function some(items, most) {
  if (items.length <= most) return items;
  return Array.from({ length: most }, (_, place) => items[Math.floor((place * items.length) / most)]);
}

/** How a method is drawn. @param {string} method */
function looksOf(method) {
  const colour = colourNow(`ink ${colourOf(method)}`);
  const mark = MARKS[(methodPlace.get(method) ?? 0) % MARKS.length];
  return { label: method, backgroundColor: faint(colour, 0.35), borderColor: faint(colour, 0.8), colour, pointStyle: mark, pointRadius: 3.5, pointHoverRadius: 6, borderWidth: 1 };
}

/** @param {Metric} metric @param {number[]} values @param {object} [more] */
function axis(metric, values, more = {}) {
  const [ink, line] = [colourNow('axis'), colourNow('axis', 'borderTopColor')];
  const logarithmic = metric.form.endsWith('e') && values.length > 0 && values.every((value) => value > 0);
  return {
    type: logarithmic ? 'logarithmic' : 'linear',
    title: { display: true, text: `${metric.label} ${metric.arrow}${metric.unit ? `  ${metric.unit}` : ''}`, color: ink },
    ticks: { color: ink, maxTicksLimit: 7, maxRotation: 0 },
    grid: { color: line },
    border: { display: false },
    grace: '4%',
    ...more,
  };
}

/** @param {string} id @param {object} configuration */
function plot(id, configuration) {
  charts.plots.push(new /** @type {any} */ (window).Chart(find(id), configuration));
}

/** What all charts have in common; a point stands for a row, and a click on it opens its image. @param {object} scales @param {(point: any) => string[]} said */
function options(scales, said) {
  return {
    animation: false, responsive: true, maintainAspectRatio: false, scales,
    interaction: { mode: 'nearest', intersect: true },
    onClick: (/** @type {any} */ _event, /** @type {any[]} */ hit, /** @type {any} */ chart) => {
      const row = hit.length ? chart.data.datasets[hit[0].datasetIndex].data[hit[0].index].row : undefined;
      if (row !== undefined) openRow(row);
    },
    onHover: (/** @type {any} */ _event, /** @type {any[]} */ hit, /** @type {any} */ chart) => {
      chart.canvas.style.cursor = hit.length && chart.data.datasets[hit[0].datasetIndex].data[hit[0].index].row !== undefined ? 'pointer' : 'default';
    },
    plugins: {
      legend: { display: false },
      tooltip: { displayColors: false, callbacks: { title: () => '', label: (/** @type {any} */ item) => said(item.raw) } },
    },
  };
}

/** The image of a row, or, where the page has none, its place in the table. @param {number} row */
function openRow(row) {
  const key = keys[rows.key[row]];
  if (sceneOf.has(key)) return openViewer(key, methods[rows.method[row]]);
  change({ tfind: key, tmethod: '', tstatus: '', tpage: 0 });
  find('#results').scrollIntoView();
}

function drawSpread() {
  const metric = metricNamed(state.spread);
  const found = methods.map((method) => ({ method, measured: measuredRows(method, [metric.name]) }));
  const values = found.flatMap(({ measured }) => measured.map((row) => numberOf(metric.name, row)));
  const few = keys.length <= STRIP_UP_TO;
  if (few) drawStrip(metric, found, values);
  else drawHistogram(metric, found, values);
  const infinite = (columns.get(metric.name) ?? []).filter((value) => Math.abs(value) === Infinity).length;
  find('#spread-note').textContent = [
    few ? 'Each point is an image, the bar is the mean. Click a point to open the image.' : `Share of the images in each of ${BINS} bins.`,
    ...(infinite ? [`${infinite} infinite ${infinite === 1 ? 'value is' : 'values are'} not drawn.`] : []),
  ].join(' ');
  find('#spread-chart').setAttribute('aria-label', `Distribution of ${metric.label} for ${methods.join(', ')}; the summary has the means`);
}

/** A row of points a method, moved apart a little. @param {Metric} metric @param {{method: string, measured: number[]}[]} found @param {number[]} values */
function drawStrip(metric, found, values) {
  const ink = colourNow('axis');
  const datasets = found.flatMap(({ method, measured }, place) => {
    const looks = looksOf(method);
    const height = (/** @type {number} */ row) => place + (((row * 0.618034) % 1) - 0.5) * 0.5;
    const points = measured.map((row) => ({ x: numberOf(metric.name, row), y: height(row), row }));
    const mean = points.reduce((sum, { x }) => sum + x, 0) / points.length;
    const bar = [-0.36, 0.36].map((half) => ({ x: mean, y: place + half, mean: method }));
    return [
      { type: 'scatter', ...looks, data: points },
      { type: 'line', data: points.length ? bar : [], borderColor: looks.colour, borderWidth: 2.5, pointRadius: 0, pointHitRadius: 0 },
    ];
  });
  const y = {
    type: 'linear', min: -0.6, max: methods.length - 0.4, reverse: true, grid: { display: false }, border: { display: false },
    afterBuildTicks: (/** @type {any} */ scale) => { scale.ticks = methods.map((_, value) => ({ value })); },
    ticks: { color: ink, autoSkip: false, callback: (/** @type {number} */ value) => shortened(methods[value] ?? '') },
  };
  plot('#spread-chart', { type: 'scatter', data: { datasets }, options: options({ x: axis(metric, values), y }, (point) => saidOf(point, [metric])) });
}

/** A stepped line a method. @param {Metric} metric @param {{method: string, measured: number[]}[]} found @param {number[]} values */
function drawHistogram(metric, found, values) {
  const scale = axis(metric, values, { grace: 0 });
  const [to, from] = scale.type === 'logarithmic' ? [Math.log, Math.exp] : [Number, Number];
  const [least, most] = values.reduce(([low, high], value) => [Math.min(low, to(value)), Math.max(high, to(value))], [Infinity, -Infinity]);
  const step = (most - least) / BINS || 1;
  const datasets = found.map(({ method, measured }) => {
    const counts = new Array(BINS).fill(0);
    for (const row of measured) counts[Math.min(BINS - 1, Math.floor((to(numberOf(metric.name, row)) - least) / step))]++;
    const data = counts.map((count, bin) => ({ x: from(least + (bin + 0.5) * step), y: (100 * count) / (measured.length || 1), method, count }));
    const looks = looksOf(method);
    return { type: 'line', ...looks, data, stepped: 'middle', fill: true, backgroundColor: faint(looks.colour, 0.08), borderColor: looks.colour, borderWidth: 1.75, pointRadius: 0, pointHitRadius: 8 };
  });
  const [ink, line] = [colourNow('axis'), colourNow('axis', 'borderTopColor')];
  const y = { beginAtZero: true, grid: { color: line }, border: { display: false }, ticks: { color: ink, maxTicksLimit: 5, callback: (/** @type {number} */ value) => `${value} %` } };
  const said = (/** @type {any} */ point) => [`${point.method}: ${point.count} images near ${textOf(metric, point.x)}`];
  plot('#spread-chart', { type: 'line', data: { datasets }, options: options({ x: scale, y }, said) });
}

function drawPlane() {
  const [across, up] = [metricNamed(state.across), metricNamed(state.up)];
  const found = methods.map((method) => ({ method, measured: measuredRows(method, [across.name, up.name]) }));
  const chosen = found.map(({ measured }) => some(measured, POINTS_PER_METHOD));
  const datasets = found.map(({ method }, place) => ({
    ...looksOf(method),
    data: chosen[place].map((row) => ({ x: numberOf(across.name, row), y: numberOf(up.name, row), row })),
    ...(keys.length > STRIP_UP_TO ? { pointRadius: 2, borderWidth: 0 } : {}),
  }));
  const means = found.filter(({ measured }) => measured.length).map(({ method, measured }) => {
    const mean = (/** @type {Metric} */ metric) => measured.reduce((sum, row) => sum + numberOf(metric.name, row), 0) / measured.length;
    const looks = looksOf(method);
    return { ...looks, backgroundColor: looks.colour, borderColor: colourNow('axis', 'backgroundColor'), borderWidth: 2, pointRadius: 9, pointHoverRadius: 10, data: [{ x: mean(across), y: mean(up), mean: method }] };
  });
  const numbers = (/** @type {Metric} */ metric) => found.flatMap(({ measured }) => measured.map((row) => numberOf(metric.name, row)));
  const scales = {
    x: axis(across, numbers(across), { reverse: across.better === 'lower' }),
    y: axis(up, numbers(up), { reverse: up.better === 'lower' }),
  };
  plot('#plane-chart', { type: 'scatter', data: { datasets: [...means, ...datasets] }, options: options(scales, (point) => saidOf(point, [across, up])) });
  const left = chosen.some((part, place) => part.length < found[place].measured.length);
  find('#plane-note').textContent = `Up and to the right is better. Large marks are means.${left ? ` ${POINTS_PER_METHOD} images of each method are shown.` : ''}`;
  find('#plane-chart').setAttribute('aria-label', `${up.label} against ${across.label} for ${methods.join(', ')}; the summary has the means`);
}

/** What a point's label says. @param {any} point @param {Metric[]} shown */
function saidOf(point, shown) {
  if (point.mean !== undefined) return [`mean of ${point.mean}`, ...shown.map((metric, place) => `${metric.label} ${textOf(metric, place ? point.y : point.x)}`)];
  const { row } = point;
  return [`${methods[rows.method[row]]}, ${keys[rows.key[row]]}`, ...shown.map((metric) => `${metric.label} ${textOf(metric, numberOf(metric.name, row))}`)];
}

/** @param {string} text */
function shortened(text) {
  return text.length > 14 ? `${text.slice(0, 13)}…` : text;
}

/** Draw both anew: another metric, another theme. */
function drawCharts() {
  if (!charts.seen) return;
  for (const chart of charts.plots.splice(0)) chart.destroy();
  drawSpread();
  drawPlane();
}

function startCharts() {
  const { font } = /** @type {any} */ (window).Chart.defaults;
  Object.assign(font, { family: getComputedStyle(document.body).fontFamily, size: 12 });
  const choices = metrics.map(({ name, label }) => /** @type {[string, string]} */ ([name, label]));
  for (const [id, name] of /** @type {[string, keyof State][]} */ ([['#spread', 'spread'], ['#up', 'up'], ['#across', 'across']])) {
    fill(find(id), choices);
    bind(find(id), name);
  }
  find('#legend').append(...methods.map((method) => make('li', { class: `method ${colourOf(method)}` }, method)));
  whenever(['spread', 'up', 'across'], drawCharts);
  const seen = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    charts.seen = true;
    drawCharts();
  }, { rootMargin: '400px' });
  seen.observe(find('#charts-section'));
}
