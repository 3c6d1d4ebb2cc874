"use strict";
// What `toconv watch` adds: a line of news, and the page anew once the report is, as it was left.
{
  const every = (selector, root = document) => [...root.querySelectorAll(selector)];
  const SECONDS = 5, KEPT = `toconv ${location.pathname}`;
  const sectionOf = (element) => element.closest("section")?.id ?? "";
  const nameOf = {  // what of a page is found again in the next one, by a name that stays
    details: (box) => `${sectionOf(box)}: ${box.querySelector("summary").textContent}`,
    ".filter input": (input) => input.getAttribute("aria-label"),
    "th[aria-sort]": (head) => `${head.closest("table").caption.textContent}: ${head.dataset.name}`,
    ".choices button": (button) => {
      const place = button.closest(".views"), places = every(".views", place.closest("section"));
      return `${sectionOf(place)} ${places.indexOf(place)}: ${button.dataset.key} ${button.dataset.value}`;
    },
    "input.pick": (box) => box.closest("tr").dataset.trial,
  };
  const stateOf = {
    details: (box) => box.open || null,
    ".filter input": (input) => input.value || null,
    "th[aria-sort]": (head) => (head.getAttribute("aria-sort") === "none" ? null : head.getAttribute("aria-sort")),
    ".choices button": (button) => button.getAttribute("aria-pressed") === "true" || null,
    "input.pick": (box) => box.checked || null,
  };
  const again = {
    details: (box) => { box.open = true; },
    ".filter input": (input, text) => { input.value = text; input.dispatchEvent(new Event("input")); },
    "th[aria-sort]": (head, order) => {
      const button = head.querySelector("button");
      button.click();
      if (order === "descending") button.click();
    },
    ".choices button": (button) => button.click(),
    "input.pick": (box) => { box.checked = true; box.dispatchEvent(new Event("change", { bubbles: true })); },
  };
  const keep = () => {
    const kept = { at: [scrollX, scrollY], focus: null };
    for (const kind in nameOf) {
      kept[kind] = {};
      for (const element of every(kind)) {
        const state = stateOf[kind](element), name = nameOf[kind](element);
        if (state !== null) kept[kind][name] = state;
        if (element.contains(document.activeElement)) kept.focus = [kind, name];
      }
    }
    sessionStorage.setItem(KEPT, JSON.stringify(kept));
  };
  const restore = () => {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    sessionStorage.removeItem(KEPT);
    if (!kept) return;
    for (const kind in nameOf) {
      for (const element of every(kind)) {
        const name = nameOf[kind](element);
        if (name in kept[kind]) again[kind](element, kept[kind][name]);
        if (kept.focus?.[0] === kind && kept.focus[1] === name) {
          (element.querySelector("summary, button") ?? element).focus({ preventScroll: true });
        }
      }
    }
    scrollTo({ left: kept.at[0], top: kept.at[1], behavior: "instant" });
  };

  const news = document.createElement("p");
  news.className = "live";
  document.querySelector("header").append(news);
  const seen = document.currentScript.dataset.written ?? null;  // when the report was written that this page shows
  const look = async () => {
    try {
      const state = await (await fetch("state", { cache: "no-store" })).json();
      news.textContent = state.says;
      if (state.written !== seen) { keep(); location.reload(); }
    } catch {
      news.textContent = "No answer from toconv watch: this page is no longer renewed.";
    }
  };
  if ("scrollRestoration" in history) history.scrollRestoration = "manual";
  restore();
  look();
  setInterval(look, 1000 * SECONDS);
}
