import { type ChartLibrary, drawChart } from './chart';
import type { Histogram, ReportHistograms } from './data';
import { type Html, html } from './html';
import { formatNumber, formatPercent, formatSimilarity } from './numbers';

interface Bar {
  low: number;
  high: number;
  count: number;
  share: number;
}

interface Distribution {
  name: string;
  colour: string;
  dashes?: string;
  bars: Bar[];
  total: number;
  mean: number;
}

/** The range of similarities in which any of the histograms has a value, for a horizontal axis common to all. */
export function similarityRange(histograms: readonly ReportHistograms[]): [number, number] {
  const filled = histograms
    .flatMap(({ positive, negative }) => [bars(positive), bars(negative)])
    .flat()
    .filter(({ count }) => count > 0);
  if (filled.length === 0) return [-1, 1];
  return [Math.min(...filled.map(({ low }) => low)), Math.max(...filled.map(({ high }) => high))];
}

/**
 * Draws the distributions of positive and negative similarities over each other. Each is shown in percent of its own
 * pairs, since there are many more negatives than positives. Nothing for histograms without a value.
 */
export function drawSimilarities(
  library: ChartLibrary,
  title: string,
  histograms: ReportHistograms,
  range: readonly [number, number],
): Html | null {
  const distributions = [
    distribution('negative', 'var(--second)', histograms.negative, '5 3'),
    distribution('positive', 'var(--first)', histograms.positive),
  ].filter(({ total }) => total > 0);
  if (distributions.length === 0) return null;
  const { Plot } = library;
  const peaks = distributions.map(({ bars }) => bars.reduce((best, bar) => (bar.share > best.share ? bar : best)));
  const highest = Math.max(...peaks.map(({ share }) => share));
  // Names of peaks that are close to each other would overlap: they go above one another, over the higher one.
  const places = peaks.map(({ low, high }) => (low + high) / 2);
  const isCrowded = Math.max(...places) - Math.min(...places) < 0.25 * (range[1] - range[0]);
  const middle = (range[0] + range[1]) / 2;
  // The negatives are drawn first, below, but named last.
  const sentences = [...distributions]
    .reverse()
    .map(({ name, total, mean }) => `${formatNumber(total)} ${name} pairs with mean ${formatSimilarity(mean)}`);
  const chart = drawChart(library, `${title}: similarities of ${sentences.join(' and ')}.`, {
    marginTop: 26,
    marginRight: 14,
    marginBottom: 36,
    marginLeft: 46,
    x: {
      label: 'cosine similarity',
      labelAnchor: 'center',
      labelArrow: 'none',
      domain: [...range],
      ticks: 5,
      tickFormat: formatNumber,
    },
    y: {
      label: '% of pairs',
      labelArrow: 'none',
      // Room above the tallest bar for its name, or for both.
      domain: [0, highest * (isCrowded ? 1.28 : 1.16)],
      ticks: 5,
      tickFormat: (share: number) => formatNumber(share * 100),
      grid: true,
    },
    marks: [
      ...distributions.map(({ colour, bars }) =>
        Plot.areaY(outline(bars), { x: '0', y1: 0, y2: '1', fill: colour, fillOpacity: 0.35 }),
      ),
      // The bars themselves are invisible; they catch the pointer and tell the values.
      ...distributions.map(({ name, bars }) =>
        Plot.rectY(bars, {
          x1: 'low',
          x2: 'high',
          y: 'share',
          inset: 0,
          className: 'bars',
          title: ({ low, high, count, share }: Bar) =>
            `${name} pairs from ${formatSimilarity(low)} to ${formatSimilarity(high)}\n` +
            `${formatNumber(count)} (${formatPercent(share)})`,
        }),
      ),
      ...distributions.map(({ colour, dashes, bars }) =>
        Plot.line(outline(bars), { stroke: colour, strokeWidth: 1.75, strokeDasharray: dashes }),
      ),
      Plot.ruleY([0], { stroke: 'var(--muted)' }),
      ...distributions.map(({ name, colour }, index) => {
        const x = places[index]!;
        return Plot.text([{ x, y: isCrowded ? highest : peaks[index]!.share, name }], {
          x: 'x',
          y: 'y',
          text: 'name',
          textAnchor: x > middle ? 'end' : 'start',
          dy: isCrowded ? -9 - 14 * index : -9,
          fill: colour,
          className: 'halo',
        });
      }),
    ],
  });
  return html`<figure>
    <h3>${title}</h3>
    ${chart}
    <figcaption>${sentences.join(', ')}.</figcaption>
  </figure>`;
}

function distribution(name: string, colour: string, histogram: Histogram, dashes?: string): Distribution {
  const all = bars(histogram);
  const total = all.reduce((sum, { count }) => sum + count, 0);
  const mean = all.reduce((sum, { low, high, count }) => sum + ((low + high) / 2) * count, 0) / total;
  const filled = all.flatMap(({ count }, index) => (count > 0 ? [index] : []));
  return { name, colour, dashes, total, mean, bars: all.slice(filled[0] ?? 0, (filled.at(-1) ?? -1) + 1) };
}

function bars({ edges, counts }: Histogram): Bar[] {
  let total = 0;
  for (let index = 0; index < counts.length; index++) total += counts[index]!;
  return Array.from({ length: counts.length }, (_, index) => ({
    low: edges[index]!,
    high: edges[index + 1]!,
    count: counts[index]!,
    share: total > 0 ? counts[index]! / total : 0,
  }));
}

/** The upper border of the bars, from the axis and back to it. */
function outline(bars: readonly Bar[]): [number, number][] {
  return [
    [bars[0]!.low, 0],
    ...bars.flatMap(({ low, high, share }): [number, number][] => [
      [low, share],
      [high, share],
    ]),
    [bars.at(-1)!.high, 0],
  ];
}
