"use strict";
// A click on a heading sorts its column; a second click turns the order round. Cells without a number come last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const rows = [...body.rows];
      const numeric = rows.some((row) => typeof key(row, column) === "number");
      const descending = head.ariaSort ? head.ariaSort === "ascending" : numeric;
      const sign = descending ? -1 : 1;
      rows.sort((a, b) => {
        const x = key(a, column), y = key(b, column);
        if (numeric && typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        return sign * (numeric && typeof x === "number" ? x - y : String(x).localeCompare(String(y)));
      });
      body.append(...rows);
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = descending ? "descending" : "ascending";
    });
  });
}
document.documentElement.dataset.ready = "yes";
