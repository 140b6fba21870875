// Sorting and searching of tables. The page is complete without it.
"use strict";
const order = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.order === undefined ? cell.textContent : Number(cell.dataset.order);
};
const compare = (a, b) => {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // Hidden figures come last.
  return typeof a === "number" ? a - b : a.localeCompare(b, "en-GB");
};
for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [first, second] = [order(a, head.cellIndex), order(b, head.cellIndex)];
        const sign = typeof first === typeof second && down ? -1 : 1;
        return sign * compare(first, second);
      });
      table.tBodies[0].append(...rows);
    });
  }
}
for (const find of document.querySelectorAll(".find")) {
  const section = find.closest("section");
  const input = find.querySelector("input");
  const status = find.querySelector("[role=status]");
  find.hidden = false;
  input.addEventListener("input", () => {
    const sought = input.value.trim().toLocaleLowerCase("en-GB");
    const matches = (text) => text.toLocaleLowerCase("en-GB").includes(sought);
    const names = new Set();
    for (const row of section.querySelectorAll("table.sortable tbody tr")) {
      const name = `${row.cells[0].textContent} ${row.cells[1].textContent}`;
      row.hidden = !matches(name);
      if (!row.hidden) names.add(name);
    }
    for (const title of section.querySelectorAll("svg title")) {
      title.parentNode.classList.toggle("found", sought !== "" && matches(title.textContent));
    }
    for (const details of section.querySelectorAll("details:has(table.sortable)")) {
      details.open = sought !== "";
    }
    status.textContent = sought === "" ? "" : `${names.size} found`;
  });
}
