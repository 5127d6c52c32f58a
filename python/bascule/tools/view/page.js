'use strict';
// Boxes are numbered: nodes, inputs and outputs as they are drawn, then the blocks that stand for some of them.
const graph = JSON.parse(document.getElementById('graph').textContent);
const HEIGHT = 34, GAP_X = 18, GAP_Y = 30, SWEEPS = 6, MOST_BENDS = 20000;  // as in layout.py
const svg = document.querySelector('#stage svg'), all = svg.querySelector('.all');
const stage = document.getElementById('stage'), edgePath = all.querySelector('path.e');
const make = name => document.createElementNS('http://www.w3.org/2000/svg', name);
let W = svg.viewBox.baseVal.width, H = svg.viewBox.baseVal.height;
for (const name of ['viewBox', 'width', 'height']) svg.removeAttribute(name);

const elements = [...all.querySelectorAll('g[data-n]')], leaves = elements.length;
const blocks = graph.blocks;  // [parent or -1, title, detail, tip, names, value]
const number = (e, name) => +e.getAttribute(name);
const places = elements.map(e => {
  const r = e.querySelector('rect'), width = number(r, 'width');
  return {width, x: number(r, 'x') + width / 2, y: number(r, 'y') + HEIGHT / 2};
});
const homes = places.map(p => ({x: p.x, y: p.y}));
const widthOf = (title, detail) => Math.max(44, 6.6 * Math.max(1.12 * title.length, detail.length) + 16);
const closed = new Set(), framed = new Set();
let shown = elements.map((_, i) => i);

// --- layers from top to bottom, each in an order that keeps edges short: layout.py

function layout(widths, edges) {
  const n = widths.length, above = widths.map(() => []), below = widths.map(() => []);
  for (const [s, t] of edges) { above[t].push(s); below[s].push(t); }
  const layer = new Array(n).fill(0);
  for (let i = 0; i < n; i++) for (const j of above[i]) layer[i] = Math.max(layer[i], layer[j] + 1);
  for (let i = n - 1; i >= 0; i--)
    if (!above[i].length && below[i].length) layer[i] = below[i].reduce((m, j) => Math.min(m, layer[j]), 1e9) - 1;
  const every = widths.map(width => ({width, x: 0, y: 0})), routes = [];
  let spare = MOST_BENDS;
  for (const [s, t] of edges) {
    const route = [s];
    spare -= Math.max(0, layer[t] - layer[s] - 1);
    if (spare > 0) for (let l = layer[s] + 1; l < layer[t]; l++) {
      route.push(every.length);
      every.push({width: 2, x: 0, y: 0});
      layer.push(l);
    }
    route.push(t);
    routes.push(route);
  }
  const up = every.map(() => []), down = every.map(() => []);
  for (const route of routes) for (let i = 1; i < route.length; i++) {
    up[route[i]].push(route[i - 1]);
    down[route[i - 1]].push(route[i]);
  }
  const rows = Array.from({length: layer.reduce((m, l) => Math.max(m, l), -1) + 1}, () => []);
  every.forEach((_, i) => rows[layer[i]].push(i));
  for (const row of rows) spread(every, row, row.map(() => 0));
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const near = sweep % 2 ? down : up;
    for (const row of sweep % 2 ? [...rows].reverse() : rows) {
      const wanted = new Map(row.map(i =>
        [i, near[i].length ? near[i].reduce((m, j) => m + every[j].x, 0) / near[i].length : every[i].x]));
      row.sort((a, b) => wanted.get(a) - wanted.get(b));
      spread(every, row, row.map(i => wanted.get(i)));
    }
  }
  let left = Infinity, right = 0;
  for (const b of every) left = Math.min(left, b.x - b.width / 2);
  every.forEach((b, i) => {
    b.x += GAP_X - left;
    b.y = GAP_Y + HEIGHT / 2 + layer[i] * (HEIGHT + GAP_Y);
    right = Math.max(right, b.x + b.width / 2);
  });
  return {every, routes, width: right + GAP_X, height: rows.length * (HEIGHT + GAP_Y) + GAP_Y};
}

function spread(boxes, row, wanted) {
  const clusters = [];
  row.forEach((index, at) => {
    const width = boxes[index].width + GAP_X;
    let left = wanted[at] - width / 2, size = width, items = [index];
    while (clusters.length && clusters.at(-1).left + clusters.at(-1).size > left) {
      const last = clusters.pop(), share = last.items.length / (last.items.length + items.length);
      left = last.left * share + (left - last.size) * (1 - share);
      size += last.size;
      items = last.items.concat(items);
    }
    clusters.push({left, size, items});
  });
  for (const {left, items} of clusters) {
    let x = left;
    for (const i of items) { boxes[i].x = x + (boxes[i].width + GAP_X) / 2; x += boxes[i].width + GAP_X; }
  }
}

function curve(points) {
  const half = HEIGHT / 2, f = v => v.toFixed(0);
  let [x, y] = points[0], top = y + half, d = `M${f(x)} ${f(top)}`;
  points.slice(1).forEach(([nx, ny], i) => {
    const bottom = ny - half, bend = Math.min(Math.max((bottom - top) / 2, 12), 60);
    d += `C${f(x)} ${f(top + bend)} ${f(nx)} ${f(bottom - bend)} ${f(nx)} ${f(bottom)}`;
    if (i < points.length - 2) d += `V${f(ny + half)}`;
    x = nx;
    top = ny + half;
  });
  return d;
}

// --- blocks that are closed and opened

const parentOf = i => i < leaves ? graph.of[i] : blocks[i - leaves][0];
/** The box that is drawn for a node: the outermost closed block around it, or its own. */
function drawnFor(leaf) {
  let found = leaf;
  for (let b = graph.of[leaf]; b >= 0; b = blocks[b][0]) if (closed.has(b)) found = leaves + b;
  return found;
}

function element(i) {
  if (elements[i]) return elements[i];
  const [, title, detail, tip, names] = blocks[i - leaves], g = make('g'), rect = make('rect'), note = make('title');
  const value = valueOf(i), words = value === null ? detail : `${detail} · ${textOf(value)}`, width = widthOf(title, words);
  g.dataset.n = names;
  g.dataset.g = i - leaves;
  note.textContent = tip;
  for (const [name, v] of Object.entries({x: -width / 2, y: -HEIGHT / 2, width, height: HEIGHT, rx: 5,
    fill: '#f3f0e7', 'stroke-dasharray': '4 2'})) rect.setAttribute(name, v);
  g.append(note, rect);
  [[title, 't', -2], [words, 'd', 11]].forEach(([text, kind, y]) => {
    const t = make('text');
    t.setAttribute('class', kind);
    t.setAttribute('y', y);
    t.textContent = text;
    g.append(t);
  });
  all.append(g);
  places[i] = {width, x: 0, y: 0};
  homes[i] = {x: 0, y: 0};
  return elements[i] = g;
}

function arrange() {
  const drawn = Array.from({length: leaves}, (_, i) => drawnFor(i));
  shown = [...new Set(drawn)];
  for (const i of shown) element(i);
  const at = new Map(shown.map((i, k) => [i, k])), seen = new Set(), edges = [];
  for (let e = 0; e < graph.edges.length; e += 2) {
    const s = at.get(drawn[graph.edges[e]]), t = at.get(drawn[graph.edges[e + 1]]), key = s * shown.length + t;
    if (s !== t && !seen.has(key)) { seen.add(key); edges.push([s, t]); }
  }
  const found = layout(shown.map(i => places[i].width), edges);
  const visible = new Set(shown);
  elements.forEach((e, i) => { e.style.display = visible.has(i) ? '' : 'none'; });
  shown.forEach((i, k) => {
    Object.assign(places[i], {x: found.every[k].x, y: found.every[k].y});
    elements[i].setAttribute('transform', `translate(${places[i].x - homes[i].x} ${places[i].y - homes[i].y})`);
  });
  edgePath.setAttribute('d', found.routes.map(r => curve(r.map(p => [found.every[p].x, found.every[p].y]))).join(''));
  [W, H] = [found.width, found.height];
  frame();
  colour();
  search();
}

/** Frames around the blocks that were opened, whose name closes them again. */
function frame() {
  all.querySelectorAll('.frame').forEach(f => f.remove());
  const bounds = new Map();
  const grow = (inner, x0, y0, x1, y1) => {  // of the innermost frame around a box or a frame
    let b = inner;
    while (b >= 0 && !framed.has(b)) b = blocks[b][0];
    if (b < 0) return;
    const o = bounds.get(b) || [Infinity, Infinity, -Infinity, -Infinity];
    bounds.set(b, [Math.min(o[0], x0), Math.min(o[1], y0), Math.max(o[2], x1), Math.max(o[3], y1)]);
  };
  for (const i of shown) {
    const p = places[i];
    grow(parentOf(i), p.x - p.width / 2, p.y - HEIGHT / 2, p.x + p.width / 2, p.y + HEIGHT / 2);
  }
  for (const b of [...framed].sort((m, n) => n - m)) {  // inner ones first: they end on top
    if (!bounds.has(b)) continue;
    const [x0, y0, x1, y1] = bounds.get(b);
    grow(blocks[b][0], x0 - 6, y0 - 13, x1 + 6, y1 + 5);
    const g = make('g'), rect = make('rect'), text = make('text');
    g.setAttribute('class', 'frame');
    for (const [name, v] of Object.entries({x: x0 - 6, y: y0 - 13, width: x1 - x0 + 12, height: y1 - y0 + 18, rx: 6}))
      rect.setAttribute(name, v);
    text.setAttribute('x', x0 - 2);
    text.setAttribute('y', y0 - 3);
    text.textContent = `− ${blocks[b][1]}`;
    text.dataset.g = b;
    text.dataset.open = 1;
    g.append(rect, text);
    all.prepend(g);
  }
}

function keep(anchor, change) {  // what was clicked stays under the mouse
  const before = {...places[anchor]};
  change();
  const after = places[drawnFor(firstOf(anchor))];
  x += (before.x - after.x) * k;
  y += (before.y - after.y) * k;
  draw();
}
const firstOf = i => i < leaves ? i : blocks[i - leaves][6];
function openBlock(b) {
  keep(leaves + b, () => { closed.delete(b); framed.add(b); arrange(); });
}
function closeBlock(b, anchor) {
  keep(anchor, () => { closed.add(b); framed.delete(b); arrange(); });
}

// --- colours: a number's shade depends on what else is drawn

const valueOf = i => i < leaves ? graph.values[i] : blocks[i - leaves][5];
const textOf = value => typeof value === 'number' ? String(+value.toPrecision(4)) : value[1];
function colour() {
  const numbers = shown.map(valueOf).filter(v => typeof v === 'number');
  if (!graph.numbers) {
    for (const i of shown) if (i >= leaves && valueOf(i)) fill(i, valueOf(i)[0]);
    return;
  }
  const high = numbers.reduce((m, v) => Math.max(m, v), -Infinity), low = graph.numbers[0];
  const shade = v => {
    const share = high > low ? Math.min(Math.max((v - low) / (high - low), 0), 1) : 1;
    return `rgb(${[255 - 15 * share, 250 - 150 * share, 240 - 160 * share].map(Math.round)})`;
  };
  for (const i of shown) {
    const value = valueOf(i);
    if (typeof value === 'number') fill(i, shade(value));
    else if (value) fill(i, value[0]);
  }
  const top = document.querySelector('#legend > span:last-child');
  if (top && numbers.length) top.lastChild.textContent = ` ${textOf(high)}`;
}
const fill = (i, c) => elements[i].querySelector('rect').setAttribute('fill', c);

// --- pan, zoom, search

let k = 1, x = 0, y = 0;
const draw = () => all.setAttribute('transform', `translate(${x} ${y}) scale(${k})`);
const fit = () => {
  const w = stage.clientWidth, h = stage.clientHeight;
  k = Math.min(w / W, h / H, 1);
  x = (w - W * k) / 2;
  y = Math.max(0, (h - H * k) / 2);
  draw();
};
const start = () => {
  const w = stage.clientWidth;
  fit();
  if (k < 0.35) {
    k = Math.min(1, Math.max(0.6, w / W));
    x = w / 2 - places[shown[0]].x * k;
    y = 0;
    draw();
  }
};
stage.addEventListener('wheel', e => {
  e.preventDefault();
  const r = stage.getBoundingClientRect(), px = e.clientX - r.left, py = e.clientY - r.top;
  const n = Math.min(4, Math.max(0.01, k * Math.exp(-e.deltaY / 500)));
  x = px - (px - x) * n / k;
  y = py - (py - y) * n / k;
  k = n;
  draw();
}, {passive: false});
let from = null;
stage.addEventListener('pointerdown', e => {
  from = [e.clientX - x, e.clientY - y, e.clientX, e.clientY];
  stage.setPointerCapture(e.pointerId);
});
stage.addEventListener('pointermove', e => {
  if (from) { x = e.clientX - from[0]; y = e.clientY - from[1]; draw(); }
});
stage.addEventListener('pointerup', e => {
  if (from && Math.hypot(e.clientX - from[2], e.clientY - from[3]) < 4) click(e);
  from = null;
});
function click(e) {
  const at = document.elementFromPoint(e.clientX, e.clientY);
  const hit = at && at.closest('[data-g]'), box = at && at.closest('g[data-n]');
  if (e.shiftKey && box) {
    const index = elements.indexOf(box), block = parentOf(index);
    if (block >= 0) closeBlock(block, index);
  } else if (hit && hit.dataset.open) {
    closeBlock(+hit.dataset.g, shown.find(i => inside(i, +hit.dataset.g)));
  } else if (hit) openBlock(+hit.dataset.g);
}
function inside(i, block) {
  for (let b = parentOf(i); b >= 0; b = blocks[b][0]) if (b === block) return true;
  return false;
}
document.getElementById('fit').onclick = fit;
document.getElementById('close').onclick = () => {
  blocks.forEach((_, b) => closed.add(b));
  framed.clear();
  arrange();
  start();
};
document.getElementById('open').onclick = () => { closed.clear(); framed.clear(); arrange(); start(); };
if (!blocks.length) document.getElementById('blocks').style.display = 'none';

const find = document.getElementById('find'), count = document.getElementById('count');
let hits = [], at = 0;
function search() {
  const q = find.value.toLowerCase();
  for (const e of elements) if (e) e.classList.remove('hit');
  hits = q ? [...new Set(elements.slice(0, leaves).flatMap((e, i) =>
    e.dataset.n.toLowerCase().includes(q) ? [drawnFor(i)] : []))] : [];
  for (const i of hits) elements[i].classList.add('hit');
  at = Math.min(at, Math.max(hits.length - 1, 0));
  count.textContent = q ? `${hits.length ? at + 1 : 0}/${hits.length}` : '';
}
function show() {
  search();
  if (!hits.length) return;
  const p = places[hits[at]];
  k = Math.max(k, 0.8);
  x = stage.clientWidth / 2 - p.x * k;
  y = stage.clientHeight / 2 - p.y * k;
  draw();
}
find.addEventListener('input', () => { at = 0; show(); });
find.addEventListener('keydown', e => {
  if (e.key === 'Enter' && hits.length) { at = (at + 1) % hits.length; show(); }
});

if (graph.closed.length) {
  for (const b of graph.closed) closed.add(b);
  arrange();
}
start();
