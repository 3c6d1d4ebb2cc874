// Sorting a table: numbers by size, empty cells last, everything else by name.
for (const head of all("table.sortable th")) {
  const button = document.createElement("button"), column = head.cellIndex, table = head.closest("table");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  head.setAttribute("aria-sort", "none");
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  button.addEventListener("click", () => {
    const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of all("th", table)) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const difference = Number(x) - Number(y);
      return way * (Number.isNaN(difference) ? x.localeCompare(y, undefined, { numeric: true }) : difference);
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  });
}

// Filtering a table by typing: a row stays where each word stands in it.
const FEWEST = 8;  // rows of a table that is worth it
for (const table of all("table.sortable")) {
  const rows = [...table.tBodies[0].rows], caption = table.caption.textContent;
  if (rows.length < FEWEST) continue;
  const box = document.createElement("p"), label = document.createElement("label"), input = document.createElement("input");
  const count = document.createElement("output");
  box.className = "filter";
  input.type = "search";
  input.setAttribute("aria-label", `filter rows: ${caption}`);
  label.append("filter rows ", input);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = shown < rows.length ? `${shown} of ${rows.length} rows` : "";
  });
  box.append(label, " ", count);
  table.parentNode.before(box);
}
