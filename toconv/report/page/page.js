"use strict";
// What the page does beyond being read: choosing a figure, reading a point, copying a command. tables.js and
// side_by_side.js follow in the same script.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
document.documentElement.classList.add("js");

// Choosing a figure: each view names the choices that show it.
for (const place of all(".views")) {
  const buttons = all(".choices button", place), views = all(":scope > .view", place);
  const chosen = { ...views.find((view) => view.classList.contains("on")).dataset };
  const fits = (view, wanted) => Object.entries(wanted).every(([key, value]) => view.dataset[key] === value);
  const show = () => {
    for (const view of views) view.classList.toggle("on", fits(view, chosen));
    for (const button of buttons) {
      const { key, value } = button.dataset;
      button.setAttribute("aria-pressed", chosen[key] === value);
      button.disabled = !views.some((view) => fits(view, { ...chosen, [key]: value }));
    }
  };
  for (const button of buttons) {
    button.addEventListener("click", () => { chosen[button.dataset.key] = button.dataset.value; show(); });
  }
  place.querySelector(".choices").hidden = buttons.length === 0;
  show();
}

// Reading a point: by pointer, by tab, by arrow keys within a plot.
const reading = document.getElementById("reading");
for (const title of all(".point > title")) {
  title.parentNode.setAttribute("aria-label", title.textContent);
  title.remove();
}
let current = null;  // the point that is read
const place = () => {
  const at = (current.querySelector(".mark") ?? current).getBoundingClientRect(), box = reading.getBoundingClientRect();
  const left = Math.min(Math.max(8, at.x + at.width / 2 - box.width / 2), innerWidth - box.width - 8);
  const above = at.y - box.height - 10;
  reading.style.left = `${left}px`;
  reading.style.top = `${above > 4 ? above : Math.min(at.bottom + 10, innerHeight - box.height - 8)}px`;
};
const read = (point) => {
  current = point;
  reading.textContent = point.getAttribute("aria-label");
  reading.hidden = false;
  place();
};
const silent = () => { current = null; reading.hidden = true; };
const pointOf = (event) => event.target.closest?.("svg.plot .point");
for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, (event) => { const point = pointOf(event); if (point) read(point); });
}
for (const kind of ["pointerout", "focusout"]) document.addEventListener(kind, (event) => { if (pointOf(event)) silent(); });
document.addEventListener("scroll", () => { if (current) place(); }, { passive: true, capture: true });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") silent();
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key], point = pointOf(event);
  if (!step || !point) return;
  const corner = (p) => { const box = p.getBoundingClientRect(); return [box.x + box.width / 2, box.y]; };
  const points = all(".point", point.closest("svg.plot"))
    .map((p) => [p, ...corner(p)]).sort((a, b) => a[1] - b[1] || a[2] - b[2]).map(([p]) => p);
  points[(points.indexOf(point) + step + points.length) % points.length].focus({ preventScroll: true });
  event.preventDefault();
});

for (const place of all(".command")) {
  const button = document.createElement("button"), code = place.querySelector("code");
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {  // a page from a file may not write to the clipboard: select it instead
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
  });
  place.append(button);
}

// On paper everything is open.
const closed = () => all("details:not([open])");
addEventListener("beforeprint", () => { for (const box of closed()) { box.open = true; box.dataset.closed = ""; } });
addEventListener("afterprint", () => {
  for (const box of all("details[data-closed]")) { box.open = false; delete box.dataset.closed; }
});
