import { paletteSize } from './palette';

/** The colours that differ between light and dark: text, surfaces, series, and one for each of ten classes. */
const light = {
  page: '#ffffff',
  surface: '#f6f7f9',
  text: '#1b1f24',
  muted: '#59636e',
  line: '#dde1e6',
  first: '#0b63a8',
  second: '#b04a00',
  same: '#1a7f37',
  other: '#c0261c',
  hover: 'rgb(27 31 36 / 8%)',
};

const dark = {
  page: '#13161a',
  surface: '#1c2026',
  text: '#e7eaee',
  muted: '#9da7b3',
  line: '#343b44',
  first: '#6db5f5',
  second: '#f4a04c',
  same: '#46b95e',
  other: '#ff7b70',
  hover: 'rgb(231 234 238 / 10%)',
};

/**
 * Ten colours that stay apart under the common kinds of colour blindness, in the order of M. Petroff, "Accessible Color
 * Sequences for Data Visualization", arXiv:2107.02270; on a dark page the darkest of them are lifted.
 */
const classesLight = [
  '#3f90da',
  '#e89a00',
  '#bd1f01',
  '#84938f',
  '#832db6',
  '#a96b59',
  '#e76300',
  '#a3964f',
  '#5d626e',
  '#45b8b8',
];
const classesDark = [
  '#4c9de6',
  '#ffb52e',
  '#e8452a',
  '#a6b5b2',
  '#b673e0',
  '#c58a79',
  '#ff8534',
  '#c9bc80',
  '#858b99',
  '#92dadd',
];

function variables(colours: Record<string, string>, classes: readonly string[]): string {
  const all = [
    ...Object.entries(colours).map(([name, colour]) => `--${name}: ${colour}`),
    ...classes.map((colour, index) => `--class-${index}: ${colour}`),
  ];
  return `${all.join('; ')};`;
}

const classRules = Array.from(
  { length: paletteSize },
  (_, index) => `.class-${index} { fill: var(--class-${index}); --own: var(--class-${index}); }`,
).join('\n');

/** The page's style sheet. It names no font files and no pictures, so that nothing is fetched. */
export const style = `
:root { color-scheme: light dark; ${variables(light, classesLight)} }
@media (prefers-color-scheme: dark) { :root { ${variables(dark, classesDark)} } }
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif; }
main, header.page, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header.page { padding-top: 40px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 8px; overflow-wrap: anywhere; text-wrap: balance; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 0 0 8px; }
h3 { font-size: 1rem; line-height: 1.3; margin: 0 0 4px; overflow-wrap: anywhere; }
p { margin: 0 0 12px; max-width: 68ch; }
a { color: var(--first); }
:focus-visible { outline: 2px solid var(--first); outline-offset: 2px; }
.subtitle { font-size: 1.1rem; color: var(--muted); overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 20px; list-style: none; margin: 20px 0 0; padding: 12px 0; border-block: 1px solid var(--line); }
section { padding: 36px 0 4px; scroll-margin-top: 8px; }
.explanation, figcaption, .note { color: var(--muted); }
figcaption, .note { font-size: 0.875rem; line-height: 1.45; }
figcaption { margin-top: 8px; }
.facts { display: flex; flex-wrap: wrap; gap: 12px 32px; margin: 20px 0 0; }
.facts div { min-width: 0; }
.facts dt, .group dt { color: var(--muted); font-size: 0.875rem; overflow-wrap: anywhere; }
.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.groups { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 20px; align-items: start; }
.group { background: var(--surface); border-radius: 10px; padding: 16px 20px; min-width: 0; }
.group dl { margin: 8px 0 0; }
.group dt { flex: none; max-width: 50%; }
.group dl div { display: flex; justify-content: space-between; gap: 16px; padding: 4px 0; border-top: 1px solid var(--line); }
.group dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; min-width: 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); gap: 28px 40px; align-items: start; margin-top: 16px; }
figure { margin: 0; min-width: 0; max-width: 560px; }
figure.large { max-width: 680px; }
.columns:has(figure.large) { grid-template-columns: 1fr; }
svg.chart { display: block; width: 100%; height: auto; overflow: visible; background: none; font-family: inherit; font-size: 12px; fill: currentColor; }
svg.chart text { white-space: pre; }
svg.chart [aria-label^="x-grid"], svg.chart [aria-label^="y-grid"] { stroke: var(--line); stroke-opacity: 1; }
svg.chart [aria-label$="-axis tick"] { stroke: var(--line); }
svg.chart [aria-label$="-axis tick label"], svg.chart [aria-label$="-axis label"] { fill: var(--muted); }
svg.chart .halo text { stroke: var(--page); stroke-width: 4px; stroke-linejoin: round; paint-order: stroke; font-weight: 600; }
svg.chart .reach > * { stroke: transparent; fill: transparent; }
svg.chart .reach > *:hover { stroke: var(--hover); }
svg.chart .bars > * { fill: transparent; }
svg.chart .bars > *:hover { fill: var(--hover); }
.projection svg.chart { background: var(--surface); border-radius: 10px; margin-top: 8px; }
.projection .halo text { stroke: var(--surface); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); font-size: 0.875rem; padding-bottom: 6px; }
th, td { padding: 8px 0 8px 16px; text-align: right; vertical-align: baseline; border-bottom: 1px solid var(--line); }
th:first-child { padding-left: 0; text-align: left; font-weight: 500; overflow-wrap: anywhere; }
thead th, thead th:first-child { font-size: 0.875rem; font-weight: 500; color: var(--muted); vertical-align: bottom; }
td { white-space: nowrap; }
td .best { font-weight: 700; }
td small, th small { display: inline-block; min-width: 3.4em; color: var(--muted); font-size: 0.875rem; }
${classRules}
.legend { border: 0; margin: 16px 0 0; padding: 0; min-width: 0; }
.legend legend { padding: 0; color: var(--muted); font-size: 0.875rem; }
.legend .options { display: flex; flex-wrap: wrap; gap: 8px; margin-top: 8px; }
.legend label { display: inline-flex; align-items: center; gap: 8px; min-height: 32px; padding: 2px 12px; border: 1px solid var(--line); border-radius: 16px; cursor: pointer; font-size: 0.875rem; overflow-wrap: anywhere; }
.legend label:hover { background: var(--surface); }
.legend label:has(:checked) { border-color: var(--text); box-shadow: inset 0 0 0 1px var(--text); }
.legend label:has(:focus-visible) { outline: 2px solid var(--first); outline-offset: 2px; }
.legend input { position: absolute; opacity: 0; pointer-events: none; }
.legend .swatch { width: 12px; height: 12px; border-radius: 50%; flex: none; background: var(--own); }
.legend .swatch.every { background: conic-gradient(var(--class-0) 0 25%, var(--class-1) 0 50%, var(--class-2) 0 75%, var(--class-4) 0); }
.queries { list-style: none; margin: 16px 0 0; padding: 0; display: grid; gap: 16px; }
.query { display: grid; grid-template-columns: 104px 1fr; gap: 20px; padding: 14px 16px; background: var(--surface); border-radius: 10px; }
.query ol { list-style: none; margin: 0; padding: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(max(72px, calc((100% - (var(--count) - 1) * 10px) / var(--count))), 1fr)); gap: 10px; }
.picture { min-width: 0; font-size: 0.8125rem; line-height: 1.3; }
.picture img { display: block; width: 100%; max-width: 104px; height: auto; image-rendering: pixelated; border-radius: 3px; }
.picture .frame { position: relative; display: block; max-width: 104px; border: 3px solid var(--line); border-radius: 6px; margin-bottom: 5px; }
.picture .same { border-color: var(--same); }
.picture .other { border-color: var(--other); border-style: dashed; }
.picture .mark { position: absolute; top: -9px; right: -9px; width: 20px; height: 20px; border-radius: 50%; border: 2px solid var(--surface); fill: none; stroke: var(--surface); stroke-width: 2.4; stroke-linecap: round; stroke-linejoin: round; }
.picture .same .mark { background: var(--same); }
.picture .other .mark { background: var(--other); }
.picture .name { display: block; overflow-wrap: anywhere; }
.picture .similarity { color: var(--muted); font-variant-numeric: tabular-nums; }
.query > .picture .name { font-weight: 600; }
.key { display: inline-flex; align-items: center; gap: 8px; margin-right: 20px; white-space: nowrap; }
.key span { display: inline-block; width: 18px; height: 18px; border-radius: 4px; border: 3px solid var(--same); }
.key .dashed { border: 3px dashed var(--other); }
footer { padding-top: 28px; padding-bottom: 40px; color: var(--muted); font-size: 0.875rem; }
@media (max-width: 560px) {
  main, header.page, footer { padding-left: 16px; padding-right: 16px; }
  header.page { padding-top: 24px; }
  h1 { font-size: 1.6rem; }
  section { padding-top: 28px; }
  svg.chart { font-size: 14px; }
  .facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px 16px; }
  th, td { padding-left: 10px; }
  td small, th small { display: block; min-width: 0; }
  .query { grid-template-columns: 1fr; gap: 12px; padding: 12px; }
  .query > .picture { display: grid; grid-template-columns: 72px 1fr; gap: 12px; align-items: center; }
  .query > .picture .frame { margin: 0; }
  .query ol { grid-template-columns: repeat(5, 1fr); gap: 10px; }
  .picture { font-size: 0.75rem; }
}
@media print { section { break-inside: avoid-page; } .query, figure { break-inside: avoid; } nav { display: none; } }
`;
