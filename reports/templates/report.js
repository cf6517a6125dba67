"use strict";

// A click on a header sorts its table: best first where there is a best, then the other way round.
const words = new Intl.Collator(undefined, { numeric: true });

function sortBy(header) {
  const button = header.querySelector("button");
  const other = { ascending: "descending", descending: "ascending" };
  const order = other[header.getAttribute("aria-sort")] || button.dataset.first || "ascending";
  const sign = order === "ascending" ? 1 : -1;
  const body = header.closest("table").tBodies[0];
  const numbers = "numbers" in button.dataset;
  const rows = Array.from(body.rows, (row) => {
    const cell = row.cells[header.cellIndex];
    return { row, value: numbers ? cell.dataset.value : cell.textContent };
  });
  rows.sort((a, b) => {
    if (a.value === "" || b.value === "") return (a.value === "") - (b.value === ""); // none comes last, either way
    if (!numbers) return sign * words.compare(a.value, b.value);
    return a.value === b.value ? 0 : sign * (Number(a.value) < Number(b.value) ? -1 : 1);
  });
  for (const cell of header.parentElement.cells) cell.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  body.append(...rows.map(({ row }) => row));
}

for (const header of document.querySelectorAll(".sortable thead th")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header));
}

// A click on a picture enlarges it by a whole number; its neighbours take its place at the same size.
const dialog = document.querySelector("dialog");
const [name, about] = dialog.querySelectorAll("#enlarged > *");
const enlarged = dialog.querySelector(":scope > img");
let figures = [];
let shown = 0;

function show(index) {
  shown = (index + figures.length) % figures.length;
  const figure = figures[shown];
  const row = figure.closest(".row");
  const width = Number(row.dataset.width);
  const height = Number(row.dataset.height);
  const fit = Math.min((innerWidth - 32) / width, (innerHeight - 96) / height);
  const zoom = fit >= 1 ? Math.floor(fit) : fit;
  const numbers = Array.from(figure.querySelectorAll("dl > div"), (pair) =>
    Array.from(pair.children, (part) => part.textContent).join(" "));
  enlarged.src = figure.querySelector("img").src;
  enlarged.alt = figure.querySelector("img").alt;
  enlarged.style.width = `${width * zoom}px`;
  enlarged.style.height = `${height * zoom}px`;
  enlarged.classList.toggle("pixelated", fit >= 1 || figure.querySelector("img").classList.contains("pixelated"));
  name.textContent = figure.querySelector(".label").textContent;
  about.textContent = [row.dataset.key, ...numbers].join(" · ");
}

for (const button of document.querySelectorAll(".enlarge")) {
  button.addEventListener("click", () => {
    figures = Array.from(button.closest(".figures").children);
    show(figures.indexOf(button.closest("figure")));
    dialog.showModal();
  });
}

for (const button of dialog.querySelectorAll(".step")) {
  button.addEventListener("click", () => show(shown + Number(button.dataset.step)));
}
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  show(shown + step);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog || event.target === enlarged || event.target.closest(".close")) dialog.close();
});
addEventListener("resize", () => dialog.open && show(shown));
