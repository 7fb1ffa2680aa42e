"""The landing page of a run: the panel as HTML, without scripts or external resources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from rl_exporter.snapshot import SanctumSnapshot
from rl_exporter.view.cells import Cell, Part
from rl_exporter.view.environment import Fact
from rl_exporter.view.findings import Finding
from rl_exporter.view.layout import legend
from rl_exporter.view.run_view import RunView, run_view

REFRESH_SECONDS = 3

_LINKS = ("/metrics", "/api/v1/heads", "/-/healthy", "/-/ready")

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy, a second line behind escaping: markup in a run's name could run or load nothing."""

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1d2330;--dim:#5c6575;--line:#e1e5ec;--track:#e6e9ef;
--healthy:#16703a;--warning:#8a5a00;--critical:#c2202e}
@media(prefers-color-scheme:dark){:root{--bg:#12161d;--fg:#dfe4ec;--dim:#8f99a9;--line:#262d38;--track:#262d38;
--healthy:#4cc38a;--warning:#e3b341;--critical:#ff6369}}
body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:90rem;
padding:0 1.5rem}
h1{font-size:1.5rem;margin:0 0 .25rem;overflow-wrap:anywhere}
h1 span{font-size:1rem;font-weight:400;margin-left:.75rem}
dl{display:flex;flex-wrap:wrap;gap:.25rem 1.75rem;margin:.5rem 0 1rem}
dl div{display:flex;gap:.4rem}dt,.dim,footer,th{color:var(--dim)}dd{margin:0}
ul{list-style:none;margin:0 0 1.25rem;padding:0;display:grid;gap:.1rem 1.25rem;
grid-template-columns:max-content max-content 1fr}
li{display:contents}li i{font-style:normal;font-weight:600}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;letter-spacing:.08em;font-size:.8rem;
padding:.75rem .75rem .25rem;color:var(--dim)}
th,td{text-align:left;padding:.3rem .75rem;white-space:nowrap;min-width:6.75rem}
tbody tr+tr td,tbody tr+tr th{border-top:1px solid var(--line)}
tbody tr.bar td,tbody tr.bar th{border-top:0;padding-top:0}
th:first-child{min-width:4rem;position:sticky;left:0;background:var(--bg);font-weight:400}
thead th{font-weight:600;color:var(--fg);font-size:1rem}
.plain{color:var(--fg)}.strong{font-weight:600}.healthy{color:var(--healthy)}
.warning{color:var(--warning)}.critical{color:var(--critical);font-weight:600}
.track{display:inline-block;vertical-align:middle;height:.55rem;width:100%;
min-width:3rem;background:var(--track);border-radius:.3rem;overflow:hidden}
.track span{display:block;height:100%;background:currentColor}
td.grad .track{width:3.5rem}footer div{white-space:pre-wrap}
footer{margin-top:1.25rem;font-size:.875rem}a{color:inherit}
"""


def landing_page(snapshot: SanctumSnapshot, now: float) -> str:
    """Render ``snapshot`` at Unix time ``now``."""
    view = run_view(snapshot, now)
    name, *rest = view.title
    # Refreshed by a meta element, so that the policy can forbid scripts. The empty icon saves a request that
    # fails.
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(name.text)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(name.text)}{''.join(map(_cell_html, rest))}</h1>"
        f"{_facts_html(view.facts)}<ul>{''.join(map(_finding_html, view.findings))}</ul>"
        f"{_table_html(view)}{''.join(map(_facts_html, view.environment))}{_footer_html(view)}</body></html>"
    )


def _css_class(part: Part) -> str:
    return (part.level or part.tone).value


def _cell_html(cell: Cell) -> str:
    return f'<span class="{_css_class(cell)}">{escape(cell.text)}</span>'


def _facts_html(facts: Sequence[Fact]) -> str:
    return f"<dl>{''.join(map(_fact_html, facts))}</dl>"


def _fact_html(fact: Fact) -> str:
    label, cell = fact
    return f"<div><dt>{escape(label)}</dt><dd>{_cell_html(cell)}</dd></div>"


def _finding_html(finding: Finding) -> str:
    word, head, text = map(escape, (finding.word, finding.head, finding.text))
    return f'<li><b class="{finding.tone.value}">{word}</b><i>{head}</i><span>{text}</span></li>'


def _table_html(view: RunView) -> str:
    if not view.heads:
        return ""
    names = "".join(f"<th>{_cell_html(head.name)}</th>" for head in view.heads)
    rows = (_row_html(label, (head.rows[label] for head in view.heads)) for label in view.labels)
    return (
        '<div class="scroll"><table><caption>ACTION HEADS</caption>'
        f"<thead><tr><th></th>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row_html(label: str, columns: Iterable[tuple[Part, ...]]) -> str:
    kind = {"": "bar", "Grad": "grad"}.get(label, "")
    cells = (f'<td class="{kind}">{" ".join(map(_part_html, parts))}</td>' for parts in columns)
    return f'<tr class="{kind}"><th>{escape(label)}</th>{"".join(cells)}</tr>'


def _part_html(part: Part) -> str:
    if isinstance(part, Cell):
        return _cell_html(part)
    filled = f'<span style="width:{part.fill:.1%}"></span>'
    return f'<span class="track {_css_class(part)}" role="presentation">{filled}</span>'


def _footer_html(view: RunView) -> str:
    lines = ("".join(map(_cell_html, line)) for line in legend(200, view.thresholds))
    links = " · ".join(f'<a href="{path}">{path}</a>' for path in _LINKS)
    return f"<footer>{''.join(f'<div>{line}</div>' for line in lines)}<p>{links}</p></footer>"
