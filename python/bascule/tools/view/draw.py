# SPDX-License-Identifier: Apache-2.0
"""Boxes and edges as SVG, and as a page with pan, zoom and search that needs no network."""

from __future__ import annotations

import html
from collections.abc import Sequence

from bascule.tools.view.colours import Colours
from bascule.tools.view.layout import HEIGHT, Box, Route

_FILLS = {"input": "#e8eefc", "output": "#e8eefc", "group": "#f3f0e7", "node": "#ffffff"}

_STYLE = (
    "text{font:11px ui-sans-serif,system-ui,sans-serif;text-anchor:middle;fill:#1c2430}"
    ".t{font-weight:600}.d{fill:#414b59;font-size:9.5px}"
    "rect{stroke:#8793a5;stroke-width:1}.e{fill:none;stroke:#a5afbd;stroke-width:1}"
    ".hit rect{stroke:#d0342c;stroke-width:3}"
)


def svg(
    boxes: Sequence[Box],
    routes: Sequence[Route],
    size: tuple[float, float],
    colours: Colours,
    identifier: str = "bascule-graph",
) -> str:
    """The drawing; `identifier` keeps its style to itself."""
    width, height = size
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{identifier}" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" style="background:#fff">',
        f"<style>{_scoped(identifier)}</style><g class='all'>",
    ]
    paths = [_edge(route) for route in routes]
    parts.append(f"<path class='e' d='{''.join(paths)}'/>")
    parts += [_box(box, colours) for box in boxes]
    parts.append("</g></svg>")
    return "".join(parts)


def _scoped(identifier: str) -> str:
    rules = [rule for rule in _STYLE.split("}") if rule]
    return "".join(f"#{identifier} {rule}}}" for rule in rules)


def _edge(route: Route) -> str:
    """A curve between boxes; beside the boxes that it passes it runs straight."""
    half = HEIGHT / 2
    (x, y), last = route[0], len(route) - 1
    parts = [f"M{x:.0f} {y + half:.0f}"]
    top = y + half
    for number, (next_x, next_y) in enumerate(route[1:], 1):
        bottom = next_y - half
        bend = min(max((bottom - top) / 2, 12), 60)
        parts.append(
            f"C{x:.0f} {top + bend:.0f} {next_x:.0f} {bottom - bend:.0f} {next_x:.0f} {bottom:.0f}"
        )
        if number < last:
            parts.append(f"V{next_y + half:.0f}")
        x, top = next_x, next_y + half
    return "".join(parts)


def _box(box: Box, colours: Colours) -> str:
    found = colours.of(box)
    fill = found[0] if found is not None else _FILLS[box.kind]
    tip = f"{box.key}\n{box.tip}" + (f"\n{found[1]}" if found is not None else "")
    names = " ".join(box.members)
    radius = 16 if box.kind in ("input", "output") else 5
    dashed = " stroke-dasharray='4 2'" if box.kind == "group" else ""
    return (
        f"<g data-n='{html.escape(f'{box.key} {box.title} {names}'[:2000], True)}'>"
        f"<title>{html.escape(tip)}</title>"
        f"<rect x='{box.x - box.width / 2:.0f}' y='{box.y - HEIGHT / 2:.0f}' "
        f"width='{box.width:.0f}' height='{HEIGHT}' rx='{radius}' fill='{fill}'{dashed}/>"
        f"<text class='t' x='{box.x:.0f}' y='{box.y - 2:.0f}'>{html.escape(box.title)}</text>"
        f"<text class='d' x='{box.x:.0f}' y='{box.y + 11:.0f}'>{html.escape(box.detail)}</text></g>"
    )


def legend(colours: Colours) -> str:
    """What the colours mean, as an HTML fragment; empty where there are none."""
    return "".join(
        "<span style='margin-right:12px;white-space:nowrap'><span style='display:inline-block;"
        f"width:12px;height:12px;border:1px solid #8793a5;background:{colour}'></span> "
        f"{html.escape(text)}</span>"
        for colour, text in colours.legend()
    )


def page(title: str, summary: str, drawing: str, colours: Colours) -> str:
    """A whole page with the drawing."""
    return _PAGE.format(
        title=html.escape(title),
        summary=html.escape(summary),
        legend=legend(colours),
        drawing=drawing,
        script=_SCRIPT,
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>
html,body{{margin:0;height:100%;overflow:hidden;font:13px system-ui,sans-serif;color:#1c2430}}
#bar{{padding:8px 12px;border-bottom:1px solid #d4dae3;background:#f7f9fc;display:flex;gap:14px;\
align-items:center;height:24px;white-space:nowrap}}
#bar b{{overflow:hidden;text-overflow:ellipsis}} #find{{width:220px}}
#stage{{position:absolute;top:41px;bottom:0;left:0;right:0;cursor:grab;background:#fff}}
#stage svg{{width:100%;height:100%}}
</style></head><body>
<div id="bar"><b>{title}</b><span>{summary}</span><input id="find" type="search" \
placeholder="search nodes" aria-label="search nodes"><span id="count"></span>
<button id="fit">fit</button><span>{legend}</span></div>
<div id="stage">{drawing}</div><script>{script}</script></body></html>
"""

_SCRIPT = """
const svg=document.querySelector('#stage svg'),all=svg.querySelector('.all');
const size=svg.viewBox.baseVal,W=size.width,H=size.height;
svg.removeAttribute('viewBox');svg.removeAttribute('width');svg.removeAttribute('height');
let k=1,x=0,y=0;
const draw=()=>all.setAttribute('transform',`translate(${x} ${y}) scale(${k})`);
const stage=document.getElementById('stage');
const fit=()=>{const w=stage.clientWidth,h=stage.clientHeight;
 k=Math.min(w/W,h/H,1);x=(w-W*k)/2;y=Math.max(0,(h-H*k)/2);draw()};
const start=()=>{const w=stage.clientWidth;fit();
 if(k<0.35){k=Math.min(1,Math.max(0.6,w/W));const b=all.querySelector('rect');
 x=w/2-(+b.getAttribute('x')+b.getAttribute('width')/2)*k;y=0;draw()}};
stage.addEventListener('wheel',e=>{e.preventDefault();const f=Math.exp(-e.deltaY/500);
 const r=stage.getBoundingClientRect(),px=e.clientX-r.left,py=e.clientY-r.top;
 const n=Math.min(4,Math.max(0.01,k*f));x=px-(px-x)*n/k;y=py-(py-y)*n/k;k=n;draw()},
 {passive:false});
let from=null;
stage.addEventListener('pointerdown',e=>{from=[e.clientX-x,e.clientY-y];
 stage.setPointerCapture(e.pointerId)});
stage.addEventListener('pointermove',e=>{if(from){x=e.clientX-from[0];y=e.clientY-from[1];draw()}});
stage.addEventListener('pointerup',()=>from=null);
document.getElementById('fit').onclick=fit;
const boxes=[...all.querySelectorAll('g[data-n]')],find=document.getElementById('find');
let hits=[],at=0;
const count=document.getElementById('count');
const show=()=>{count.textContent=find.value?`${hits.length?at+1:0}/${hits.length}`:'';
 if(!hits.length)return;const r=hits[at].querySelector('rect');k=Math.max(k,0.8);
 x=stage.clientWidth/2-(+r.getAttribute('x')+r.getAttribute('width')/2)*k;
 y=stage.clientHeight/2-(+r.getAttribute('y'))*k;draw()};
find.addEventListener('input',()=>{const q=find.value.toLowerCase();
 boxes.forEach(b=>b.classList.remove('hit'));
 hits=q?boxes.filter(b=>b.dataset.n.toLowerCase().includes(q)):[];
 hits.forEach(b=>b.classList.add('hit'));
 at=0;show()});
find.addEventListener('keydown',e=>{if(e.key==='Enter'&&hits.length){at=(at+1)%hits.length;show()}});
start();
"""
