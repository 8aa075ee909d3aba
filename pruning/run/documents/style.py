"""The style of the page: light, for laptops, phones and paper."""

from yolo.figures import GONE, KEPT, MARK

CSS = f"""
:root {{ --ink: #1d2731; --soft: #5b6875; --line: #e3e8ed; --kept: {KEPT}; --gone: {GONE};
  --mark: {MARK}; --good: #2c7a4b; --paper: #fff; --wash: #f5f7f9; }}
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; }}
body {{ margin: 0; background: var(--wash); color: var(--ink); font: 16px/1.55 system-ui,
  -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }}
main {{ max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }}
h1 {{ margin: 0; font-size: 34px; line-height: 1.2; letter-spacing: -.02em;
  overflow-wrap: anywhere; }}
h2 {{ margin: 0 0 4px; font-size: 20px; letter-spacing: -.01em; }}
p {{ margin: 0 0 12px; }}
.lead {{ margin: 8px 0 0; font-size: 18px; color: var(--soft); overflow-wrap: anywhere; }}
.note {{ color: var(--soft); font-size: 14px; max-width: 86ch; }}
.wide + .note {{ margin: 14px 0 0; }}
section {{ margin-top: 24px; padding: 24px; background: var(--paper);
  border: 1px solid var(--line); border-radius: 12px; }}
.tiles {{ display: flex; flex-wrap: wrap; gap: 14px; margin-top: 28px; }}
.tile {{ flex: 1 1 156px; padding: 18px 20px; background: var(--paper);
  border: 1px solid var(--line); border-radius: 12px; }}
.tile b {{ display: block; font-size: 30px; line-height: 1.25; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }}
.tile .what {{ color: var(--soft); font-size: 14px; }}
.tile .from {{ font-size: 14px; font-variant-numeric: tabular-nums; }}
.bar {{ height: 6px; margin: 10px 0 8px; background: var(--gone); border-radius: 3px;
  overflow: hidden; print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
.bar i {{ display: block; height: 100%; background: var(--kept); border-radius: 3px; }}
.worse .bar i {{ background: var(--mark); }}
.worse b {{ color: var(--mark); }}
.warn {{ margin-top: 24px; padding: 14px 18px; background: #fdf3ef; border: 1px solid #efcfc4;
  border-left: 4px solid var(--mark); border-radius: 8px; }}
.warn p:last-child {{ margin: 0; }}
.wide {{ overflow-x: auto; margin-top: 12px; -webkit-overflow-scrolling: touch; }}
table {{ width: 100%; border-collapse: collapse; font-size: 15px;
  font-variant-numeric: tabular-nums; }}
th {{ padding: 8px 12px 8px 0; text-align: left; color: var(--soft); font-size: 13px;
  font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }}
td {{ padding: 7px 12px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }}
tr:last-child td {{ border-bottom: 0; }}
td.n, th.n {{ text-align: right; white-space: nowrap; }}
td:last-child, th:last-child {{ padding-right: 0; }}
td.soft {{ color: var(--soft); font-size: 14px; }}
.track {{ position: relative; width: 140px; height: 8px; margin: 7px 0 0 12px; overflow: hidden;
  background: #eef1f4; border-radius: 4px; print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }}
.track i {{ position: absolute; top: 0; left: 0; height: 100%; background: #a9c4d9; }}
.track i + i {{ top: 2px; height: 4px; background: var(--kept); }}
.ok {{ color: var(--good); font-weight: 600; }}
.down {{ color: var(--mark); }}
.up {{ color: var(--good); }}
.chart {{ overflow-x: auto; margin: 12px 0 4px; }}
svg {{ display: block; width: 100%; min-width: 620px; height: auto; font-size: 12px;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
svg text {{ fill: var(--soft); }}
.key {{ display: inline-block; width: 12px; height: 12px; margin: 0 6px 0 0; border-radius: 3px;
  vertical-align: -1px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
.keys {{ color: var(--soft); font-size: 14px; }}
.keys span {{ margin-right: 18px; white-space: nowrap; }}
.pair {{ margin: 0; padding: 8px 0 14px; break-inside: avoid; }}
.pair div {{ display: grid; grid-template-columns: 1fr 1fr; gap: 8px; }}
.pairs {{ columns: 2 420px; column-gap: 28px; }}
.pair img {{ display: block; width: 100%; height: auto; border-radius: 6px; }}
.pair figcaption {{ margin-top: 6px; font-size: 14px; color: var(--soft);
  overflow-wrap: anywhere; }}
.pair figcaption b {{ color: var(--ink); font-weight: 600; }}
pre {{ margin: 6px 0 16px; padding: 12px 14px; background: var(--wash);
  border: 1px solid var(--line); border-radius: 8px; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: 13px; line-height: 1.5; }}
pre, code {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono",
  monospace; }}
code {{ font-size: 12.5px; overflow-wrap: anywhere; }}
details {{ margin-top: 12px; }}
summary {{ cursor: pointer; color: var(--kept); font-size: 15px; }}
h3 {{ margin: 20px 0 0; font-size: 15px; }}
.file {{ margin: 8px 0 0; padding: 8px 0; border-top: 1px solid var(--line); font-size: 14px; }}
.file span {{ color: var(--soft); }}
.file code {{ display: block; }}
.file code + code {{ color: var(--soft); }}
footer {{ margin-top: 28px; color: var(--soft); font-size: 13px; }}
@media (max-width: 600px) {{
  main {{ padding: 24px 12px 40px; }}
  h1 {{ font-size: 26px; }}
  .lead {{ font-size: 16px; }}
  section {{ margin-top: 16px; padding: 16px; }}
  .tiles {{ gap: 10px; margin-top: 20px; }}
  .tile {{ flex: 1 1 40%; padding: 12px 14px; }}
  .tile b {{ font-size: 25px; }}
  .tile .from, .tile .what {{ font-size: 13px; }}
  table {{ font-size: 14px; }}
  td, th {{ padding-right: 9px; }}
  .phone-off {{ display: none; }}
}}
@media print {{
  body {{ background: #fff; font-size: 11pt; }}
  main {{ max-width: none; padding: 0; }}
  section, .tile {{ border-color: #ccc; }}
  section {{ padding: 12pt; margin-top: 12pt; }}
  h2, h3, .keys, h2 + .note {{ break-after: avoid; }}
  .pairs {{ columns: 2 180pt; column-gap: 14pt; }}
  tr, .tile, .warn, .chart, .file, pre {{ break-inside: avoid; }}
  .wide, .chart {{ overflow: visible; }}
  svg {{ min-width: 0; }}
}}
"""
