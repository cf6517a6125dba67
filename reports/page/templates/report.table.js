'use strict';
// The table of all results: sorted, filtered and searched in memory; only the rows of one page are made.

const PAGE_ROWS = 50;
/** @typedef {{name: string, label: string, number: boolean, first: string, value: (row: number) => number | string}} Column */
const table = { order: /** @type {number[]} */ ([]), columns: /** @type {Column[]} */ ([]) };

/** What can be sorted by. The keys' order is made once: comparing words is slow. */
function tableColumns() {
  const sorted = keys.map((_, place) => place).sort((a, b) => words.compare(keys[a], keys[b]));
  const rank = new Int32Array(keys.length);
  sorted.forEach((place, position) => { rank[place] = position; });
  const column = (/** @type {string} */ name, /** @type {string} */ label, /** @type {boolean} */ number, /** @type {Column['value']} */ value, first = 'ascending') =>
    ({ name, label, number, first, value });
  return [
    column('key', 'Image', false, (row) => rank[rows.key[row]]),
    column('method', 'Method', false, (row) => rows.method[row]),
    column('size', 'Size', true, (row) => (rows.width[row] === null || rows.height[row] === null ? NaN : rows.width[row] * rows.height[row])),
    ...metrics.map((metric) => column(`metric:${metric.name}`, `${metric.label} ${metric.arrow}`, true,
      (row) => numberOf(metric.name, row), metric.better === 'higher' ? 'descending' : 'ascending')),
    column('status', 'Status', false, (row) => rows.error[row] ?? ''),
  ];
}

function orderTable() {
  const wanted = state.tfind.toLowerCase();
  const fits = keys.map((key) => key.toLowerCase().includes(wanted));
  const method = methodPlace.get(state.tmethod);
  const order = [];
  for (let row = 0; row < rowCount; row++) {
    const error = rows.error[row];
    if (method !== undefined && rows.method[row] !== method) continue;
    if (state.tstatus && (state.tstatus === 'failed') !== (error !== null)) continue;
    if (fits[rows.key[row]] || (error !== null && error.toLowerCase().includes(wanted))) order.push(row);
  }
  const column = table.columns.find(({ name }) => name === state.tsort);
  if (column) sortRows(order, column);
  table.order = order;
  drawTable();
}

/** None comes last, either way. @param {number[]} order @param {Column} column */
function sortRows(order, column) {
  const values = new Map(order.map((row) => [row, column.value(row)]));
  const sign = state.torder === 'descending' ? -1 : 1;
  const none = (/** @type {any} */ value) => value === '' || Number.isNaN(value);
  order.sort((left, right) => {
    const [a, b] = [/** @type {any} */ (values.get(left)), /** @type {any} */ (values.get(right))];
    if (none(a) || none(b)) return Number(none(a)) - Number(none(b)) || left - right;
    return a === b ? left - right : a < b ? -sign : sign;
  });
}

function drawTable() {
  const pages = Math.max(1, Math.ceil(table.order.length / PAGE_ROWS));
  const page = Math.min(Math.max(0, Math.floor(state.tpage)), pages - 1);
  const start = page * PAGE_ROWS;
  const shown = table.order.slice(start, start + PAGE_ROWS);
  find('.results tbody').replaceChildren(...shown.map(tableRow));
  for (const cell of document.querySelectorAll('.results thead th')) {
    if (/** @type {HTMLElement} */ (cell).dataset.name === state.tsort) cell.setAttribute('aria-sort', state.torder);
    else cell.removeAttribute('aria-sort');
  }
  const count = table.order.length.toLocaleString('en');
  find('#table-note').textContent = shown.length ? `${(start + 1).toLocaleString('en')}–${(start + shown.length).toLocaleString('en')} of ${count}` : 'nothing found';
  for (const [id, target] of /** @type {[string, number][]} */ ([['#first-page', 0], ['#earlier-page', page - 1], ['#later-page', page + 1], ['#last-page', pages - 1]])) {
    const button = find(id);
    button.disabled = target < 0 || target >= pages || target === page;
    button.onclick = () => change({ tpage: target });
  }
}

/** @param {number} row */
function tableRow(row) {
  const key = keys[rows.key[row]];
  const method = methods[rows.method[row]];
  const error = rows.error[row];
  const name = sceneOf.has(key) ? make('button', { type: 'button', class: 'link', onclick: () => openViewer(key, method) }, key) : key;
  const sized = rows.width[row] !== null && rows.height[row] !== null;
  return make('tr', {},
    make('th', { scope: 'row' }, name),
    make('td', {}, make('span', { class: `method ${colourOf(method)}` }, method)),
    make('td', { class: 'number' }, sized ? `${rows.width[row]} × ${rows.height[row]}` : '–'),
    ...metrics.map((metric) => make('td', { class: 'number' }, textOf(metric, numberOf(metric.name, row)))),
    make('td', { class: error === null ? 'unit' : 'failed' }, error === null ? 'ok' : `failed: ${error}`));
}

/** A click on a header sorts: best first where there is a best, then the other way round. @param {Column} column */
function sortTable({ name, first }) {
  const other = { ascending: 'descending', descending: 'ascending' };
  const again = state.tsort === name;
  change({ tsort: name, torder: again ? other[/** @type {'ascending' | 'descending'} */ (state.torder)] ?? first : first, tpage: 0 });
}

function startTable() {
  table.columns = tableColumns();
  find('.results thead').append(make('tr', {}, ...table.columns.map((column) => {
    const button = make('button', { type: 'button', onclick: () => sortTable(column) }, column.label);
    return make('th', { scope: 'col', class: column.number ? 'number' : '', 'data-name': column.name }, button);
  })));
  fill(find('#table-method'), [['', 'all'], ...methods.map((method) => /** @type {[string, string]} */ ([method, method]))]);
  const fromTheStart = () => ({ tpage: 0 });
  bind(find('#table-find'), 'tfind', fromTheStart);
  bind(find('#table-method'), 'tmethod', fromTheStart);
  bind(find('#table-status'), 'tstatus', fromTheStart);
  find('#table-controls').addEventListener('submit', (/** @type {Event} */ event) => event.preventDefault());
  whenever(['tfind', 'tmethod', 'tstatus', 'tsort', 'torder'], orderTable);
  whenever(['tpage'], drawTable);
}
