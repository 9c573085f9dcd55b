"""The look of a report: light and dark, no font or picture from anywhere."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #22252a; --soft: #6a6f78; --rule: #dedbd2; --card: #ffffff;
  --thread: #a8482c; --second: #2f6f8f; --good: #2c7a4b; --bad: #b3312c; --code: #f3f1eb; }
@media (prefers-color-scheme: dark) { :root { --paper: #17191d; --ink: #e4e3df; --soft: #9a9fa8; --rule: #34383f;
  --card: #1f2227; --thread: #e58a6a; --second: #74b6d6; --good: #6cc08b; --bad: #ef7d77; --code: #262a30; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .2rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .3rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: .95rem; margin: 1.2rem 0 .2rem; }
p, ul { margin: .4rem 0; } p.note { color: var(--soft); font-size: .92rem; }
.verdict { margin: 1.4rem 0; padding: 1rem 1.3rem; background: var(--card); border-left: 5px solid var(--bad);
  border-radius: 6px; } .verdict.good { border-color: var(--good); }
.verdict strong { font-size: 1.1rem; } .verdict ul { padding-left: 1.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.55rem; font-variant-numeric: tabular-nums; line-height: 1.2; }
.tile span { display: block; font-size: .92rem; } .tile small { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .5rem; border-bottom: 1px solid var(--rule); white-space: nowrap;
  vertical-align: top; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 8rem; }
thead th { color: var(--soft); font-weight: 500; }
td small { display: block; color: var(--soft); font-size: .76rem; line-height: 1.25; }
.plot { width: 100%; height: auto; margin: .6rem 0; overflow: visible; }
.plot text { fill: var(--ink); font: 13px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
.plot .axis { fill: var(--soft); font-size: 12px; }
.plot .grid { stroke: var(--rule); } .plot .zero { stroke: var(--soft); stroke-width: 1.5; }
.plot .limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4; }
.plot .whisker { stroke: var(--soft); stroke-width: 2; } .plot .dot { fill: var(--second); }
.plot .faint { fill-opacity: .45; }
.plot .good .dot { fill: var(--good); } .plot .good .whisker { stroke: var(--good); }
.plot .bad .dot { fill: var(--bad); } .plot .bad .whisker { stroke: var(--bad); }
.plot .curve { fill: none; stroke-width: 2; } .plot .line0 .curve { stroke: var(--second); }
.plot .line1 .curve { stroke: var(--thread); stroke-dasharray: 6 4; } .plot .line1 .dot { fill: var(--thread); }
figure { margin: 1rem 0 1.6rem; } figcaption { color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
pre { margin: .3rem 0; padding: .8rem 1rem; background: var(--code); border-radius: 6px; overflow-x: auto;
  font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre .ghost { color: var(--second); } pre .wrong { color: var(--bad); } pre .right { color: var(--good); }
pre .who { display: inline-block; width: 6.5rem; color: var(--soft); user-select: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: .6rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { max-width: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""
