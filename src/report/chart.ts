import { escapeHtml, Html } from './html';

type PlotModule = typeof import('@observablehq/plot', { with: { 'resolution-mode': 'import' } });

/** What the charts need of an element or text; the compiler does not know the browser's types. */
export interface ChartNode {
  /** 1 for an element, 3 for text. */
  readonly nodeType: number;
  readonly localName: string;
  readonly textContent: string | null;
  readonly childNodes: Iterable<ChartNode>;
  readonly attributes: Iterable<{ name: string; value: string }>;
  setAttribute(name: string, value: string): void;
  querySelectorAll(selector: string): Iterable<ChartNode>;
}

/** The plotting library with a document to draw in. */
export interface ChartLibrary {
  Plot: PlotModule;
  document: Document;
}

/** The document type of the plotting library's options. */
export type Document = NonNullable<NonNullable<Parameters<PlotModule['plot']>[0]>['document']>;

/** Width in which every chart is drawn; the page scales it to the column, so that text stays readable on a phone. */
export const chartWidth = 440;

/** Height of a chart that shows a course or a distribution. */
export const chartHeight = 250;

/** Text for inside a chart, where nothing breaks lines: at most `length` characters. */
export function shorten(text: string, length: number): string {
  const characters = [...text];
  return characters.length > length ? `${characters.slice(0, length - 1).join('')}…` : text;
}

/** Loads the plotting library, which is slow enough not to happen when kontrast is imported. */
export async function loadCharts(): Promise<ChartLibrary> {
  const [Plot, { parseHTML }] = await Promise.all([import('@observablehq/plot'), import('linkedom')]);
  // The library's types take their document from the browser's, which are not part of this project.
  const { document } = parseHTML('<!doctype html><html><body></body></html>') as unknown as { document: Document };
  return { Plot, document };
}

/** Attributes that hold coordinates; two decimals are finer than any screen shows. */
const geometry = new Set(['d', 'x', 'y', 'x1', 'x2', 'y1', 'y2', 'cx', 'cy', 'width', 'height', 'transform', 'points']);

/**
 * Draws a chart and turns it into HTML that depends on nothing outside the page: its own style sheet is dropped in favour
 * of the page's, which knows light and dark.
 *
 * @param description what the chart shows, for readers who cannot see it
 * @param adjust changes to the finished picture
 */
export function drawChart(
  { Plot, document }: ChartLibrary,
  description: string,
  options: NonNullable<Parameters<PlotModule['plot']>[0]>,
  adjust?: (svg: ChartNode) => void,
): Html {
  const svg = Plot.plot({
    width: chartWidth,
    height: chartHeight,
    className: 'chart',
    ...options,
    document,
  }) as unknown as ChartNode;
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', description);
  adjust?.(svg);
  return new Html(serialize(svg));
}

/** Names and classes come from outside, so that every text and attribute is escaped here, whatever the document does. */
function serialize(node: ChartNode): string {
  if (node.nodeType === 3) return escapeHtml(node.textContent ?? '');
  if (node.nodeType !== 1 || node.localName === 'style') return '';
  let attributes = '';
  for (const { name, value } of node.attributes) {
    // The parser of an HTML page knows the namespaces of inline pictures; naming them would only look like a link.
    if (name.startsWith('xmlns')) continue;
    attributes += ` ${name}="${escapeHtml(geometry.has(name) ? roundNumbers(value) : value)}"`;
  }
  const children = [...node.childNodes].map(serialize).join('');
  return `<${node.localName}${attributes}>${children}</${node.localName}>`;
}

function roundNumbers(text: string): string {
  return text.replace(/-?\d+\.\d{3,}(?:e-?\d+)?/g, (number) => String(Math.round(Number(number) * 100) / 100));
}
