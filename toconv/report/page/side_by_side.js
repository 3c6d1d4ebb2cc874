
// Two trials side by side: two rows of the table of every row, chosen by a click or by their boxes.
const trials = document.getElementById("trials");
if (trials) {
  const { settings, telling, first, rest, curves, epochs, pictures } = JSON.parse(trials.textContent);
  const table = document.querySelector("table.rows"), compared = document.getElementById("compared");
  const marks = all("svg", document.getElementById("marks").content);
  const images = [...all("img[data-trial]"), ...all("img", document.getElementById("other-maps").content)];
  let chosen = [];  // rows, the one that was chosen first before the other

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const draw = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const nameOf = (row) => cellOf(row, "name").textContent;
  const cellOf = (row, name) => [...row.cells].find((cell) => cell.dataset.name === name);
  const valueOf = (row, name) => cellOf(row, name)?.dataset.value ?? cellOf(row, name)?.textContent ?? "";

  const numbers = (caption, head, names, difference) => {
    const [a, b] = chosen, heads = [head, nameOf(a), nameOf(b), ...(difference ? ["difference"] : [])];
    const body = make("tbody");
    for (const name of names) {
      const line = make("tr", {}, make("th", { scope: "row" }, name));
      for (const row of chosen) line.append(make("td", { class: "n" }, cellOf(row, name)?.textContent ?? ""));
      const [x, y] = chosen.map((row) => valueOf(row, name)), gap = x === "" || y === "" ? NaN : y - x;
      if (difference) line.append(make("td", { class: "n" }, Number.isNaN(gap) ? "" : Number(gap.toPrecision(3)).toString()));
      body.append(line);
    }
    const top = make("thead", {}, make("tr", {}, ...heads.map((words) => make("th", { scope: "col" }, words))));
    return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      make("table", {}, make("caption", {}, caption), top, body));
  };

  // Curves: a plot for each metric that one of them has.
  const WIDTH = 300, HEIGHT = 240, LEFT = 52, RIGHT = 12, TOP = 14, BOTTOM = 40;
  const ticks = (low, high) => {
    const rough = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= 0.999 * rough);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push([i * step, (i * step).toFixed(digits)]);
    return found;
  };
  const scale = (values, start, end) => {
    const low = Math.min(...values), high = Math.max(...values);
    const margin = 0.06 * (high - low) || 0.05 * Math.abs(high) || 0.05;
    const from = low - margin, to = high + margin;
    return { place: (v) => start + ((v - from) / (to - from)) * (end - start), ticks: () => ticks(from, to) };
  };
  const text = (style, x, y, anchor, words) =>
    draw("text", { class: style, x, y, "text-anchor": anchor, dy: ".32em" }, words);
  const plot = (name, series) => {
    const every = series.flatMap((s) => s.points), last = HEIGHT - BOTTOM;
    const x = scale(every.map((p) => p[0]), LEFT, WIDTH - RIGHT), y = scale(every.map((p) => p[1]), last, TOP);
    const label = `${name} by epoch of ${series.map((s) => s.name).join(" and ")}`;
    const svg = draw("svg", { class: "plot panel", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": label });
    for (const [value, words] of y.ticks()) {
      svg.append(draw("path", { class: "grid", d: `M${LEFT} ${y.place(value)}H${WIDTH - RIGHT}` }), text("tick", LEFT - 7, y.place(value), "end", words));
    }
    for (const [value, words] of x.ticks().filter(([v]) => Number.isInteger(v))) {
      svg.append(draw("path", { class: "axis", d: `M${x.place(value)} ${last}v5` }), text("tick", x.place(value), last + 14, "middle", Math.round(words)));
    }
    svg.append(draw("path", { class: "axis", d: `M${LEFT} ${last}H${WIDTH - RIGHT}` }), text("name", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "middle", "epoch"));
    for (const { points, mark, style, name: who } of series) {
      const places = points.map(([a, b]) => [x.place(a), y.place(b)]);
      svg.append(draw("polyline", { class: `line ${style}`, points: places.map((p) => p.join(",")).join(" ") }));
      points.forEach(([epoch, value], i) => svg.append(draw("g", {
        class: `point ${style}`, transform: `translate(${places[i].join(" ")})`, role: "img",
        tabindex: i === points.length - 1 ? 0 : -1, "aria-label": `${who}, epoch ${epoch}: ${name} ${value}`,
      }, draw("circle", { class: "reach", r: 9 }), mark.cloneNode(true))));
    }
    return svg;
  };
  const curvesOf = () => {
    const found = [], lines = [["curve", "epoch", ...chosen.map(nameOf)]];
    Object.entries(curves).forEach(([name, title], i) => {
      const series = chosen.map((row, n) => ({
        name: nameOf(row), mark: marks[n].querySelector(".mark"), style: `s${n}`,
        points: (epochs[row.dataset.trial] ?? []).map((e) => [e[0], e[i + 1]]).filter(([, value]) => value !== null),
      })).filter((s) => s.points.length);
      if (!series.length) return;
      found.push(make("figure", {}, make("figcaption", {}, title), plot(name, series)));
      for (const epoch of [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b)) {
        const at = (row) => series.find((s) => s.name === nameOf(row))?.points.find((p) => p[0] === epoch)?.[1] ?? "";
        lines.push([name, epoch, ...chosen.map(at)]);
      }
    });
    if (!found.length) return [make("p", {}, "Neither has an epoch behind it.")];
    const file = "side_by_side.csv", data = `data:text/csv;charset=utf-8,${encodeURIComponent(lines.map((l) => l.join(",")).join("\n") + "\n")}`;
    return [make("div", { class: "plots" }, make("div", { class: "panels" }, ...found),
      make("p", { class: "data" }, make("a", { class: "csv", download: file, href: data }, file)))];
  };

  // Error maps of the same pictures, where the checkpoint was kept.
  const mapsOf = () => {
    const of = (row) => images.filter((image) => image.dataset.trial === row.dataset.trial);
    const found = chosen.filter((row) => !of(row).length).map((row) => make("p", {}, `${nameOf(row)}: no error maps; they are of the recommended trials and of the best others whose checkpoints were kept.`));
    if (found.length === 2) return found;
    for (const picture of pictures) {
      const photograph = all("img[data-photograph]").find((image) => image.dataset.photograph === picture);
      const shown = [[photograph, picture], ...chosen.map((row) => {
        const image = of(row).find((candidate) => candidate.dataset.picture === picture);
        return [image, image && `${nameOf(row)} ${image.dataset.mean}`];
      })].filter(([image]) => image);
      found.push(make("div", { class: "beside" }, ...shown.map(([image, words]) => make("figure", {}, image.cloneNode(), make("figcaption", {}, words)))));
    }
    return found;
  };

  const show = () => {
    const [a, b] = chosen, differ = (name) => valueOf(a, name) !== valueOf(b, name);
    const differing = settings.filter(differ), known = (name) => chosen.some((row) => valueOf(row, name) !== "");
    const legend = make("ul", { class: "legend" }, ...chosen.map((row, i) => make("li", {}, marks[i].cloneNode(true), nameOf(row))));
    compared.replaceChildren(
      make("h3", {}, `${nameOf(a)} and ${nameOf(b)}`),
      differing.length ? numbers("Settings that differ", "setting", differing, false) : make("p", {}, "None of their settings differs."),
      numbers("Results", "result", [...telling.filter(differ), ...first.filter(known)], true),
      make("details", {}, make("summary", {}, "All other results"), numbers("All other results", "result", rest.filter(known), true)),
      make("h4", {}, "By epoch"), legend, ...curvesOf(),
      make("h4", {}, "Where information is lost"), ...mapsOf(),
      make("p", {}, make("a", { href: "#rows" }, "back to the rows")),
    );
  };

  const said = make("p", { id: "chosen", role: "status", hidden: "" });
  document.body.append(said);
  const say = () => {
    said.hidden = chosen.length === 0;
    const names = chosen.map(nameOf).join(" and ");
    const clear = make("button", { type: "button" }, "clear");
    clear.addEventListener("click", () => { for (const row of [...chosen]) choose(row, false); });
    const next = chosen.length === 2 ? make("a", { href: "#side-by-side" }, "see them side by side") : "choose one more row";
    said.replaceChildren(`${names}: `, next, " ", clear);
  };
  const choosable = all("tbody tr", table).filter((row) => valueOf(row, "kind") !== "baseline");
  const boxOf = (row) => row.querySelector(".pick");
  const choose = (row, wanted) => {
    chosen = [...chosen.filter((other) => other !== row), ...(wanted ? [row] : [])].slice(-2);
    for (const other of choosable) {
      boxOf(other).checked = chosen.includes(other);
      other.classList.toggle("chosen", chosen.includes(other));
    }
    if (chosen.length === 2) show(); else compared.replaceChildren();
    say();
  };
  for (const row of choosable) {
    const box = make("input", { type: "checkbox", class: "pick", "aria-label": `put ${nameOf(row)} side by side with another` });
    row.classList.add("choosable");
    row.cells[0].prepend(box);
    box.addEventListener("change", () => choose(row, box.checked));
    row.addEventListener("click", (event) => {
      if (event.target.closest("input, a, button") || String(getSelection())) return;
      choose(row, !box.checked);
      if (chosen.length === 2) document.getElementById("side-by-side").scrollIntoView();
    });
  }
}
