"use strict";
// Draws the report. `data` is made by page.py; all text of the model is set as text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const nodes = data.nodes;
const total = nodes.reduce((sum, node) => sum + node.t, 0) || 1;
const byId = (id) => document.getElementById(id);

// --- text

const significant = (value, digits = 3) => Number(value.toPrecision(digits)).toString();
function time(ns) {
  for (const [factor, unit] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]])
    if (Math.abs(ns) >= factor) return `${significant(ns / factor)} ${unit}`;
  return `${Math.round(ns)} ns`;
}
function bytes(count) {
  for (const [factor, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]])
    if (count >= factor) return `${significant(count / factor)} ${unit}`;
  return `${Math.round(count)} B`;
}
const percent = (part) => `${(100 * part).toFixed(part < 0.0995 ? 1 : 0)} %`;
const rate = (value) => (value == null ? "" : value >= 100 ? value.toFixed(0) : significant(value));
const gflops = (item) => (item.flops && item.t ? item.flops / item.t : null);
const gigabytes = (item) => (item.bytes && item.t ? item.bytes / item.t : null);
const sourceText = (node) =>
  node.lines.length > 1
    ? `${data.lines[node.lines[0]]} (+${node.lines.length - 1})`
    : node.lines.length ? data.lines[node.lines[0]] : "";

// --- elements

function html(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (key === "text") made.textContent = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
function svg(tag, attributes = {}, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
const clipText = (text, width) => {
  const fits = Math.floor((width - 6) / 6.1);
  return fits < 3 ? "" : text.length <= fits ? text : text.slice(0, fits - 1) + "…";
};

// --- colours

const palette = ["#6ea8fe", "#f4a259", "#7bc88f", "#e07a8b", "#b79bec", "#5cc3c9", "#e3c65b",
  "#d191c4", "#a3b86c"];
const operatorTimes = new Map();
for (const node of nodes) operatorTimes.set(node.op, (operatorTimes.get(node.op) || 0) + node.t);
const ranked = [...operatorTimes].sort((a, b) => b[1] - a[1]).map(([name]) => name);
const operatorColour = new Map(ranked.map((name, i) => [name, palette[i] || "var(--rest)"]));
function peakColour(part) {
  if (part == null) return "var(--rest)";
  const at = Math.max(0, Math.min(part, 1));  // red, yellow, green
  const hue = at < 0.5 ? 8 + 84 * at : 50 + (at - 0.5) * 160;
  return `hsl(${hue} 68% 62%)`;
}
let colourBy = "operator";
const colourOf = (node) =>
  colourBy === "operator" ? operatorColour.get(node.op) : peakColour(node.peak);

// --- tooltip

const tip = byId("tip");
function showTip(event, lines) {
  tip.replaceChildren(...lines.filter(Boolean));
  tip.style.display = "block";
  const { width, height } = tip.getBoundingClientRect();
  const x = Math.min(event.clientX + 14, innerWidth - width - 8);
  const y = event.clientY + 16 + height > innerHeight ? event.clientY - height - 10
    : event.clientY + 16;
  tip.style.left = `${Math.max(4, x)}px`;
  tip.style.top = `${Math.max(4, y)}px`;
}
const hideTip = () => { tip.style.display = "none"; };
function nodeTip(node) {
  const speed = [];
  if (gflops(node) != null) speed.push(`${rate(gflops(node))} GFLOP/s`);
  if (gigabytes(node) != null) speed.push(`${rate(gigabytes(node))} GB/s`);
  if (node.peak != null) speed.push(`${percent(node.peak)} of what the machine can do`);
  const others = node.replaced.length > 1 ? `stands for ${node.replaced.length} nodes: ` +
    node.replaced.slice(0, 6).join(", ") + (node.replaced.length > 6 ? ", …" : "") : "";
  return [
    html("b", { text: `${node.inside}${node.name}` }),
    html("div", { text: `${node.op}  ${node.shape}  (kernel ${node.kernel})` }),
    html("div", { text: `${time(node.t)}, ${percent(node.t / total)}` +
      (node.calls > 1 ? `, ${significant(node.calls)} calls` : "") }),
    speed.length ? html("div", { text: speed.join(", ") }) : null,
    node.scope.length ? html("div", { text: `module ${node.scope.join(".")}` }) : null,
    ...node.lines.slice(0, 4).map((line) => html("code", { text: data.lines[line] })),
    node.lines.length > 4 ? html("code", { text: `and ${node.lines.length - 4} more lines` }) : null,
    others ? html("div", { class: "soft", text: others }) : null,
  ];
}
function hover(element, lines) {
  element.addEventListener("mousemove", (event) => showTip(event, lines()));
  element.addEventListener("mouseleave", hideTip);
}

// --- heading

byId("title").textContent = data.model;
byId("about").textContent = data.about;
for (const [value, label] of data.tiles)
  byId("tiles").append(html("div", { class: "tile" }, html("b", { text: value }),
    html("span", { text: label })));

// --- flame view

const hasScopes = nodes.some((node) => node.scope.length);
byId("flame-note").textContent = hasScopes ? "by module, then node; click to enter"
  : "by operator, then node, as the model has no modules; click to enter";
function buildTree() {
  const root = { name: data.model, t: 0, parts: new Map(), children: [], depth: 0, parent: null };
  for (const node of nodes) {
    let place = root;
    root.t += node.t;
    for (const part of hasScopes ? node.scope : [node.op]) {
      let next = place.parts.get(part);
      if (!next) {
        next = { name: part, t: 0, parts: new Map(), children: [], parent: place };
        place.parts.set(part, next);
        place.children.push(next);
      }
      next.t += node.t;
      place = next;
    }
    place.children.push({ name: node.name, t: node.t, node, children: [], parent: place });
  }
  return root;
}
const root = buildTree();
const stripes = ["var(--line)", "var(--track)"];
let focus = root;
let wanted = "";
const pathOf = (item) => {
  const names = [];
  for (let at = item; at && at !== root; at = at.parent) names.unshift(at.name);
  return names.join(hasScopes ? "." : " / ");
};
const countOf = (item) => item.node ? 1 : item.children.reduce((sum, c) => sum + countOf(c), 0);
function matches(item) {
  if (!wanted) return true;
  const node = item.node;
  const text = node ? `${node.name} ${node.op} ${sourceText(node)}` : pathOf(item);
  return text.toLowerCase().includes(wanted);
}
function drawFlame() {
  const target = byId("flame");
  const width = target.clientWidth || 1400;
  const row = 22;
  const shapes = [];
  let deepest = 0;
  const place = (item, x, w, depth, odd) => {
    deepest = Math.max(deepest, depth);
    shapes.push({ item, x, w, depth, odd });
    let at = x;
    let small = null;
    item.children.forEach((child, index) => {
      const span = item.t ? (w * child.t) / item.t : 0;
      if (span >= 0.6) {
        place(child, at, span, depth + 1, index % 2);
        small = null;
      } else {
        if (!small) shapes.push(small = { rest: 0, t: 0, x: at, w: 0, depth: depth + 1, most: 0 });
        if (child.node && child.t > small.most) {
          small.most = child.t;
          small.node = child.node;
        }
        small.rest += countOf(child);
        small.t += child.t;
        small.w += span;
        deepest = Math.max(deepest, depth + 1);
      }
      at += span;
    });
  };
  const above = [];
  for (let at = focus.parent; at; at = at.parent) above.unshift(at);
  above.forEach((item, depth) => shapes.push({ item, x: 0, w: width, depth, outer: true }));
  place(focus, 0, width, above.length, 0);
  const height = (deepest + 1) * row + 2;
  const drawing = svg("svg", { height, viewBox: `0 0 ${width} ${height}` });
  for (const shape of shapes) {
    if (shape.w < 0.25) continue;
    const item = shape.item;
    const fill = !item ? (shape.node ? colourOf(shape.node) : "var(--rest)") : item.node ? colourOf(item.node)
      : shape.w < 5 && item !== root ? stripes[shape.odd] : "var(--track)";
    const faded = shape.outer || (wanted && item && !matches(item));
    const kind = `box${faded ? " faded" : ""}${shape.w < 5 ? " thin" : ""}`;
    const box = svg("rect", { class: kind, x: shape.x, y: shape.depth * row,
      width: Math.max(shape.w, 0.4), height: row - 1, rx: shape.w > 6 ? 2.5 : 0, fill });
    drawing.append(box);
    if (item) {
      const label = item.node ? item.name : `${item.name}  ${time(item.t)}`;
      const shown = clipText(label, shape.w);
      if (shown) drawing.append(svg("text", { class: item.node ? "dark" : "", x: shape.x + 4,
        y: shape.depth * row + 15, "pointer-events": "none" }, shown));
      hover(box, () => item.node ? nodeTip(item.node) : [
        html("b", { text: pathOf(item) || data.model }),
        html("div", { text: `${time(item.t)}, ${percent(item.t / total)}, ${countOf(item)} nodes` }),
      ]);
      box.addEventListener("click", () => {
        focus = item.node ? item.parent : item;
        hideTip();
        drawFlame();
      });
    } else {
      hover(box, () => [html("div", { text: `${shape.rest} small ones, ${time(shape.t)}` })]);
    }
  }
  target.replaceChildren(drawing);
  drawLegend();
}
function drawLegend() {
  const legend = byId("flame-legend");
  const entry = (colour, text) => html("span", {}, html("i", { style: `background:${colour}` }), text);
  if (colourBy === "operator") {
    const shown = ranked.slice(0, palette.length);
    const rest = ranked.slice(palette.length);
    const restTime = rest.reduce((sum, name) => sum + operatorTimes.get(name), 0);
    legend.replaceChildren(...shown.map((name) => entry(operatorColour.get(name),
      `${name} ${percent(operatorTimes.get(name) / total)}`)),
    ...(rest.length ? [entry("var(--rest)", `${rest.length} more ${percent(restTime / total)}`)] : []));
  } else {
    legend.replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((part) =>
      entry(peakColour(part), `${100 * part} %`)), entry("var(--rest)", "not known"));
  }
}
for (const kind of ["operator", "peak"])
  byId(`by-${kind}`).addEventListener("click", () => {
    colourBy = kind;
    byId("by-operator").setAttribute("aria-pressed", kind === "operator");
    byId("by-peak").setAttribute("aria-pressed", kind === "peak");
    drawFlame();
    drawRun();
    drawRoofline();
  });
byId("flame-search").addEventListener("input", (event) => {
  wanted = event.target.value.trim().toLowerCase();
  drawFlame();
});

// --- one run

const run = data.run;
const view = { from: 0, to: run.length };
function ticks(from, to, count) {
  const raw = (to - from) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw);
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return found;
}
const left = 118;
function drawRun() {
  const target = byId("run");
  if (!run.lanes.length) {
    target.replaceChildren(html("div", { class: "soft", text: "Nothing was recorded of one run." }));
    return;
  }
  const width = target.clientWidth || 1400;
  const scale = (width - left - 6) / (view.to - view.from || 1);
  const x = (ns) => left + (ns - view.from) * scale;
  const row = 20;
  const drawing = svg("svg", {});
  let y = 18;
  const laneTop = y;
  const boxes = svg("g");
  for (const lane of run.lanes) {
    const rows = 1 + lane.items.reduce((most, item) => Math.max(most, item[3] || 0), 0);
    drawing.append(svg("text", { class: "soft", x: 0, y: y + 14 }, clipText(lane.name, left)));
    boxes.append(svg("rect", { x: left, y, width: width - left - 6, height: rows * row - 3,
      fill: "var(--track)", opacity: 0.5 }));
    let filled = -1;
    for (const [index, start, length, depth] of lane.items) {
      if (start + length < view.from || start > view.to) continue;
      const x0 = Math.max(x(start), left);
      const x1 = Math.min(x(start + length), width - 6);
      if (x1 - filled < 0.5 && x1 - x0 < 0.5) continue;  // within a pixel that has a box
      filled = Math.max(x1, filled);
      const node = nodes[index];
      const box = svg("rect", { class: x1 - x0 < 4 ? "box thin" : "box", x: x0, y: y + (depth || 0) * row,
        width: Math.max(x1 - x0, 0.5), height: row - 3, fill: colourOf(node) });
      hover(box, () => [...nodeTip(node), html("div", { class: "soft",
        text: `here ${time(length)}, from ${time(start)} on` })]);
      boxes.append(box);
      const shown = clipText(node.name, x1 - x0);
      if (shown) boxes.append(svg("text", { class: "dark", x: x0 + 3, y: y + 13 + (depth || 0) * row },
        shown));
    }
    y += rows * row + 5;
  }
  const laneEnd = y;
  const memoryTop = y + 16;
  const memoryHeight = run.memory.length ? 130 : 0;
  const height = memoryTop + memoryHeight + 8;
  for (const at of ticks(view.from, view.to, Math.max(2, Math.floor(width / 130)))) {
    drawing.append(svg("line", { class: "grid", x1: x(at), x2: x(at), y1: 14, y2: height - 6 }));
    drawing.append(svg("text", { class: "soft", x: x(at) + 2, y: 10 }, time(at)));
  }
  drawing.append(boxes);
  if (memoryHeight) drawMemory(drawing, x, memoryTop, memoryHeight, width);
  drawing.setAttribute("height", height);
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  zoomable(drawing, scale, [laneTop, laneEnd]);
  target.replaceChildren(drawing);
}
function drawMemory(drawing, x, top, height, width) {
  const most = Math.max(...run.memory.map((each) => each[1]), 1);
  const limit = Math.max(most, data.arena) * 1.22;
  const y = (count) => top + height * (1 - count / limit);
  const inside = (at) => Math.min(Math.max(at, left), width - 6);
  let path = "";
  let last = null;
  run.memory.forEach(([start, live], index) => {
    const end = index + 1 < run.memory.length ? run.memory[index + 1][0] : run.length;
    if (end < view.from || start > view.to) return;
    const x0 = inside(x(start));
    const x1 = inside(x(end));
    path += path ? `L${x0} ${y(live)}L${x1} ${y(live)}` : `M${x0} ${y(0)}L${x0} ${y(live)}L${x1} ${y(live)}`;
    last = x1;
  });
  drawing.append(svg("text", { class: "soft", x: 0, y: top + 12 }, "values of the run"));
  drawing.append(svg("text", { class: "soft", x: 0, y: top + 28 }, `at most ${bytes(most)}`));
  if (path) drawing.append(svg("path", { d: `${path}L${last} ${y(0)}Z`, fill: "#6ea8fe",
    opacity: 0.55 }));
  for (const at of ticks(0, limit, 3)) {
    drawing.append(svg("line", { class: "grid", x1: left, x2: width - 6, y1: y(at), y2: y(at) }));
    if (at) drawing.append(svg("text", { class: "soft", x: left + 4, y: y(at) - 3 }, bytes(at)));
  }
  if (data.arena) {
    drawing.append(svg("line", { x1: left, x2: width - 6, y1: y(data.arena), y2: y(data.arena),
      stroke: "var(--warm)", "stroke-dasharray": "5 4" }));
    drawing.append(svg("text", { x: width - 8, y: y(data.arena) - 5, "text-anchor": "end" },
      `arena ${bytes(data.arena)}`));
  }
  const cover = svg("rect", { x: left, y: top, width: Math.max(width - left - 6, 0), height,
    fill: "transparent" });
  cover.addEventListener("mousemove", (event) => {
    const bounds = cover.getBoundingClientRect();
    const at = view.from + ((event.clientX - bounds.left) / bounds.width) * (view.to - view.from);
    let found = run.memory[0];
    for (const each of run.memory) if (each[0] <= at) found = each;
    showTip(event, [html("b", { text: bytes(found[1]) }),
      html("div", { text: `while ${nodes[found[2]]?.name ?? "a node"} runs` })]);
  });
  cover.addEventListener("mouseleave", hideTip);
  drawing.append(cover);
}
function zoomable(drawing, scale) {
  const at = (event) => {
    const bounds = drawing.getBoundingClientRect();
    return view.from + Math.max(0, event.clientX - bounds.left - left) / scale;
  };
  const show = (from, to) => {
    const length = Math.min(Math.max(to - from, 200), run.length);
    view.from = Math.min(Math.max(from, 0), run.length - length);
    view.to = view.from + length;
    hideTip();
    drawRun();
  };
  drawing.addEventListener("wheel", (event) => {
    event.preventDefault();
    const middle = at(event);
    const factor = event.deltaY < 0 ? 0.75 : 1 / 0.75;
    show(middle - (middle - view.from) * factor, middle + (view.to - middle) * factor);
  }, { passive: false });
  drawing.addEventListener("dblclick", () => show(0, run.length));
  drawing.addEventListener("mousedown", (event) => {
    const begin = event.clientX;
    const { from, to } = view;
    const move = (moved) => {
      const by = (moved.clientX - begin) / scale;
      if (Math.abs(moved.clientX - begin) > 3) show(from - by, to - by);
    };
    const stop = () => {
      removeEventListener("mousemove", move);
      removeEventListener("mouseup", stop);
    };
    addEventListener("mousemove", move);
    addEventListener("mouseup", stop);
  });
}

// --- roofline

function drawRoofline() {
  const target = byId("roofline");
  const points = nodes.filter((node) => node.flops && node.bytes && node.t && node.peak != null);
  if (!points.length) {
    target.replaceChildren(html("div", { class: "soft",
      text: "No node has a known number of operations and bytes." }));
    return;
  }
  const width = target.clientWidth || 680;
  const height = 430;
  const { gflops: peak, gigabytes_s: memory, cache_gigabytes_s: cache } = data.peaks;
  const intensity = (node) => node.flops / node.bytes;
  const xs = points.map(intensity);
  const ys = points.map(gflops);
  const low = Math.floor(Math.log10(Math.min(...xs, 0.1)));
  const high = Math.ceil(Math.log10(Math.max(...xs, (2 * peak) / memory)));
  const bottom = Math.floor(Math.log10(Math.max(Math.min(...ys), peak / 1e6)));
  const top = Math.log10(Math.max(...ys, peak) * 1.6);
  const pad = { left: 46, right: 10, top: 8, bottom: 34 };
  const x = (value) => pad.left + ((Math.log10(value) - low) / (high - low)) *
    (width - pad.left - pad.right);
  const y = (value) => height - pad.bottom - ((Math.log10(value) - bottom) / (top - bottom)) *
    (height - pad.top - pad.bottom);
  const floor = 10 ** bottom;
  const drawing = svg("svg", { height, viewBox: `0 0 ${width} ${height}` });
  for (let power = low; power <= high; ++power) {
    const at = x(10 ** power);
    drawing.append(svg("line", { class: "grid", x1: at, x2: at, y1: pad.top, y2: y(floor) }));
    drawing.append(svg("text", { class: "soft", x: at, y: y(floor) + 14, "text-anchor": "middle" },
      significant(10 ** power)));
  }
  for (let power = bottom; power <= top; ++power) {
    const at = y(10 ** power);
    drawing.append(svg("line", { class: "grid", x1: pad.left, x2: width - pad.right, y1: at, y2: at }));
    drawing.append(svg("text", { class: "soft", x: pad.left - 5, y: at + 4, "text-anchor": "end" },
      significant(10 ** power)));
  }
  drawing.append(svg("text", { class: "soft", x: width - pad.right, y: height - 4,
    "text-anchor": "end" }, "operations a byte"));
  drawing.append(svg("text", { class: "soft", x: pad.left + 5, y: pad.top + 12 }, "GFLOP/s"));
  const roof = (bandwidth, label, dashed) => {
    const from = Math.max(10 ** low, floor / bandwidth);
    const knee = peak / bandwidth;
    const path = `M${x(from)} ${y(from * bandwidth)}L${x(knee)} ${y(peak)}L${x(10 ** high)} ${y(peak)}`;
    drawing.append(svg("path", { d: path, fill: "none", stroke: dashed ? "var(--soft)" : "var(--ink)",
      "stroke-width": 1.6, "stroke-dasharray": dashed ? "5 4" : "none" }));
    const at = Math.sqrt(from * knee);
    const angle = -Math.atan2(y(at * bandwidth) - y(at * bandwidth * 10), x(at * 10) - x(at)) *
      (180 / Math.PI);
    drawing.append(svg("text", { x: x(at), y: y(at * bandwidth) - 6, "text-anchor": "middle",
      transform: `rotate(${angle} ${x(at)} ${y(at * bandwidth) - 6})` }, label));
  };
  roof(memory, `memory ${rate(memory)} GB/s`, false);
  if (cache > memory * 1.15) roof(cache, `cache ${rate(cache)} GB/s`, true);
  drawing.append(svg("text", { x: width - pad.right, y: y(peak) - 6, "text-anchor": "end" },
    `float32 ${rate(peak)} GFLOP/s`));
  for (const node of [...points].sort((a, b) => b.t - a.t)) {
    const value = Math.max(gflops(node), floor);
    const circle = svg("circle", { class: "box", cx: x(intensity(node)), cy: y(value),
      r: Math.max(3, Math.min(26, 60 * Math.sqrt(node.t / total / Math.PI))), fill: colourOf(node),
      "fill-opacity": 0.75 });
    hover(circle, () => [...nodeTip(node), html("div", { class: "soft",
      text: `${significant(intensity(node))} operations a byte` })]);
    drawing.append(circle);
  }
  target.replaceChildren(drawing);
}

// --- loading

function drawLoad() {
  const target = byId("load");
  const width = target.clientWidth || 680;
  const sum = data.load.reduce((all, each) => all + each[1], 0) || 1;
  byId("load-note").textContent = time(sum * 1e9);
  const drawing = svg("svg", { height: 26, viewBox: `0 0 ${width} 26` });
  let at = 0;
  data.load.forEach(([name, seconds], index) => {
    const w = (width * seconds) / sum;
    const box = svg("rect", { class: "box", x: at, y: 0, width: Math.max(w, 0.5), height: 24, rx: 3,
      fill: palette[index % palette.length] });
    hover(box, () => [html("b", { text: name }), html("div", { text: time(seconds * 1e9) })]);
    drawing.append(box);
    const shown = clipText(name, w);
    if (shown) drawing.append(svg("text", { class: "dark", x: at + 4, y: 16 }, shown));
    at += w;
  });
  const legend = html("div", { class: "legend" });
  data.load.forEach(([name, seconds], index) => legend.append(html("span", {},
    html("i", { style: `background:${palette[index % palette.length]}` }),
    `${name} ${time(seconds * 1e9)}`)));
  target.replaceChildren(drawing, legend);
}

// --- tables

// columns: [title, value for sorting, text, kind], where kind is "", "number", "code" or "time".
function table(target, columns, rows, options = {}) {
  let sorted = options.sorted ?? -1;
  let falling = true;
  let shown = options.first ?? 12;
  let filter = "";
  if (!rows.length) {
    target.replaceChildren(html("span", { class: "soft", text: "none" }));
    return () => {};
  }
  const draw = () => {
    let list = rows;
    if (filter) list = list.filter((each) => options.text(each).toLowerCase().includes(filter));
    if (sorted >= 0) {
      const value = columns[sorted][1];
      const rank = (each) => value(each) ?? (falling ? -Infinity : Infinity);
      list = [...list].sort((a, b) => {
        const [p, q] = [rank(a), rank(b)];
        const order = p < q ? -1 : p > q ? 1 : 0;
        return falling ? -order : order;
      });
    }
    const head = html("tr", {}, ...columns.map(([title, value, , kind], index) => {
      const mark = index === sorted ? (falling ? " ↓" : " ↑") : "";
      return html("th", { class: `sorts ${kind === "number" || kind === "time" ? "number" : ""}`,
        text: title + mark, onclick: () => {
          falling = index === sorted ? !falling : typeof value(rows[0]) !== "string";
          sorted = index;
          draw();
        } });
    }));
    const body = list.slice(0, shown).map((each) => {
      const made = html("tr", {}, ...columns.map(([, value, text, kind]) => {
        const cell = html("td", { class: kind === "time" ? "number" : kind, text: text(each) });
        if (kind === "time" && options.whole)
          cell.append(html("span", { class: "bar",
            style: `width:${Math.min(100, (100 * value(each)) / options.whole).toFixed(1)}%` }));
        return cell;
      }));
      if (options.tip) hover(made, () => options.tip(each));
      return made;
    });
    const children = [html("table", {}, html("thead", {}, head), html("tbody", {}, ...body))];
    if (list.length > shown)
      children.push(html("button", { style: "margin-top:8px",
        text: `${list.length - shown} more`, onclick: () => { shown += options.more ?? 200; draw(); } }));
    target.replaceChildren(...children);
    options.count?.(list.length);
  };
  draw();
  return (text) => { filter = text.trim().toLowerCase(); draw(); };
}
const speedColumns = [
  ["time", (each) => each.t, (each) => time(each.t), "time"],
  ["%", (each) => each.t, (each) => (100 * each.t / total).toFixed(1), "number"],
  ["GFLOP/s", (each) => gflops(each), (each) => rate(gflops(each)), "number"],
  ["GB/s", (each) => gigabytes(each), (each) => rate(gigabytes(each)), "number"],
  ["of peak", (each) => each.peak, (each) => each.peak == null ? "" : percent(each.peak), "number"],
];
const groupColumns = (title, kind) => [
  [title, (each) => each.name, (each) => each.name || "(none)", kind],
  ["nodes", (each) => each.nodes, (each) => `${each.nodes}`, "number"],
  ...speedColumns,
];
const groupOptions = { sorted: 2, whole: total };
table(byId("operators"), groupColumns("operator", ""), data.operators, groupOptions);
const hasLines = data.by_line.length > 0;
byId("lines-title").textContent = hasLines ? "By source line" : "By module";
table(byId("lines"), groupColumns(hasLines ? "line" : "module", hasLines ? "code" : ""),
  hasLines ? data.by_line : data.by_module, groupOptions);
table(byId("passes"), [
  ["pass", (each) => each[0], (each) => each[0], ""],
  ["changes", (each) => each[1], (each) => `${each[1]}`, "number"],
  ["time", (each) => each[2], (each) => time(each[2] * 1e9), "number"],
], data.passes, { sorted: 2, first: 8 });
const nodeColumns = [
  ["node", (node) => node.name, (node) => node.inside + node.name, ""],
  ["operator", (node) => node.op, (node) => node.op, ""],
  ["makes", (node) => node.shape, (node) => node.shape, ""],
  ...speedColumns,
];
if (nodes.some((node) => node.provider !== "CPU"))
  nodeColumns.splice(2, 0, ["provider", (node) => node.provider, (node) => node.provider, ""]);
if (hasScopes) nodeColumns.push(["module", (n) => n.scope.join("."), (n) => n.scope.join("."), ""]);
if (data.lines.length) nodeColumns.push(["source", sourceText, sourceText, "code"]);
const filterNodes = table(byId("nodes"), nodeColumns, nodes, {
  sorted: 3, first: 25, whole: Math.max(...nodes.map((node) => node.t), 1), tip: nodeTip,
  text: (node) => [node.inside, node.name, node.op, node.scope.join("."), node.replaced.join(" "),
    ...node.lines.map((line) => data.lines[line])].join(" "),
  count: (count) => { byId("nodes-note").textContent = `${count} of ${nodes.length}`; },
});
byId("nodes-search").addEventListener("input", (event) => filterNodes(event.target.value));

function drawAll() {
  drawFlame();
  drawRun();
  drawRoofline();
  drawLoad();
}
drawAll();
let later = 0;
addEventListener("resize", () => { clearTimeout(later); later = setTimeout(drawAll, 120); });
