import { type ChartLibrary, chartWidth, drawChart } from './chart';
import type { ReportCurves } from './data';
import { type Html, html } from './html';
import { formatNumber, formatSimilarity } from './numbers';

/** Up to this many points are drawn one by one; longer series are summed up in intervals. */
const intervals = 120;

/** One series of a curve chart. */
interface Line {
  name: string;
  /** A colour variable of the page's style sheet. */
  colour: string;
  /** Dashes tell the lines apart without colour. */
  dashes?: string;
  values: ArrayLike<number>;
}

/** A curve chart before it is drawn. */
interface CurveChart {
  title: string;
  unit?: string;
  lines: readonly Line[];
  format: (value: number) => string;
  /** Includes zero in the vertical axis, where distance from zero means something. */
  zero?: boolean;
}

/** The mean, smallest and largest value of an interval of steps. */
interface Interval {
  step: number;
  first: number;
  last: number;
  mean: number;
  low: number;
  high: number;
}

/** Draws one chart for each series that was measured; none where there is nothing to draw. */
export function drawCurves(library: ChartLibrary, curves: ReportCurves): Html[] {
  const order = stepOrder(curves.step);
  const steps = order.map((index) => curves.step[index]!);
  return curveCharts(curves).flatMap((chart) => {
    const lines = chart.lines
      .map((line) => ({
        ...line,
        intervals: summarize(
          steps,
          order.map((index) => line.values[index]!),
        ),
      }))
      .filter((line) => line.intervals.length > 0);
    return lines.length > 0 ? [drawCurve(library, chart, lines)] : [];
  });
}

function curveCharts(curves: ReportCurves): CurveChart[] {
  const { loss, learningRate, positiveSimilarity, negativeSimilarity, imagesPerSecond, other = [] } = curves;
  const charts: CurveChart[] = [];
  const single = (title: string, values: ArrayLike<number>, rest: Partial<CurveChart>): void => {
    charts.push({ title, lines: [{ name: title, colour: 'var(--first)', values }], format: formatNumber, ...rest });
  };
  if (loss) single('Loss', loss, { unit: 'nats' });
  const similarities: Line[] = [];
  if (positiveSimilarity) similarities.push({ name: 'positive', colour: 'var(--first)', values: positiveSimilarity });
  if (negativeSimilarity) {
    similarities.push({ name: 'negative', colour: 'var(--second)', dashes: '5 3', values: negativeSimilarity });
  }
  if (similarities.length > 0) {
    charts.push({ title: 'Mean similarity', unit: 'cosine', lines: similarities, format: formatSimilarity });
  }
  if (learningRate) single('Learning rate', learningRate, { zero: true });
  if (imagesPerSecond) single('Training speed', imagesPerSecond, { unit: 'images per second', zero: true });
  for (const { name, unit, values } of other) single(name, values, { unit });
  return charts;
}

/** Indices in the order of their steps; of entries with the same step only the last. */
function stepOrder(step: ArrayLike<number>): number[] {
  const last = new Map<number, number>();
  for (let index = 0; index < step.length; index++) last.set(step[index]!, index);
  return [...last].sort(([first], [second]) => first - second).map(([, index]) => index);
}

function summarize(steps: readonly number[], values: readonly number[]): Interval[] {
  const perInterval = Math.max(1, Math.ceil(steps.length / intervals));
  const result: Interval[] = [];
  for (let start = 0; start < steps.length; start += perInterval) {
    const end = Math.min(steps.length, start + perInterval);
    const finite = values.slice(start, end).filter((value) => Number.isFinite(value));
    if (finite.length === 0) continue;
    result.push({
      step: (steps[start]! + steps[end - 1]!) / 2,
      first: steps[start]!,
      last: steps[end - 1]!,
      mean: finite.reduce((sum, value) => sum + value, 0) / finite.length,
      low: Math.min(...finite),
      high: Math.max(...finite),
    });
  }
  return result;
}

function drawCurve(
  library: ChartLibrary,
  { title, unit, format, zero }: CurveChart,
  lines: readonly (Line & { intervals: Interval[] })[],
): Html {
  const { Plot } = library;
  const summed = lines.some((line) => line.intervals.some(({ first, last }) => first !== last));
  const columns = lines[0]!.intervals;
  const values = lines.flatMap((line) => line.intervals.flatMap(({ low, high }) => [low, high]));
  const margins = { top: 26, right: 14, bottom: 36, left: 58 };
  const chart = drawChart(
    library,
    `${title} by training step. ${lines.map((line) => `${line.name}: ${course(line, format)}.`).join(' ')}`,
    {
      marginTop: margins.top,
      marginRight: margins.right,
      marginBottom: margins.bottom,
      marginLeft: margins.left,
      x: { label: 'training step', labelAnchor: 'center', labelArrow: 'none', ticks: 5, tickFormat: formatNumber },
      y: {
        label: unit ?? null,
        labelArrow: 'none',
        ticks: 5,
        tickFormat: format,
        grid: true,
        nice: true,
        domain: verticalDomain(values, zero === true),
      },
      marks: [
        ...(summed
          ? lines.map((line) =>
              Plot.areaY(line.intervals, { x: 'step', y1: 'low', y2: 'high', fill: line.colour, fillOpacity: 0.18 }),
            )
          : []),
        ...lines.map((line) =>
          Plot.lineY(line.intervals, {
            x: 'step',
            y: 'mean',
            stroke: line.colour,
            strokeWidth: 2,
            strokeDasharray: line.dashes,
          }),
        ),
        // A line through a single point has no length.
        ...lines
          .filter((line) => line.intervals.length === 1)
          .map((line) => Plot.dot(line.intervals, { x: 'step', y: 'mean', fill: line.colour, r: 3.5 })),
        ...(lines.length > 1 ? [lineNames(library, lines)] : []),
        // Wide invisible lines catch the pointer and tell the values.
        Plot.ruleX(columns, {
          x: 'step',
          className: 'reach',
          strokeWidth: (chartWidth - margins.left - margins.right) / columns.length,
          title: (column: Interval) => describeColumn(column, lines, format),
        }),
      ],
    },
  );
  return html`<figure>
    <h3>${title}</h3>
    ${chart}
    <figcaption>${caption(lines, format, summed)}</figcaption>
  </figure>`;
}

/** Without a range of its own, as a constant series is, an axis would have no scale. */
function verticalDomain(values: readonly number[], zero: boolean): [number, number] {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (zero) {
    low = Math.min(0, low);
    high = Math.max(0, high);
  }
  if (low < high) return [low, high];
  const room = Math.abs(low) > 0 ? Math.abs(low) * 0.1 : 1;
  return [low - room, high + room];
}

/** The name of each line beside its end, on the side where the other lines are not. */
function lineNames({ Plot }: ChartLibrary, lines: readonly (Line & { intervals: Interval[] })[]) {
  const ends = lines.map((line) => ({ name: line.name, colour: line.colour, ...line.intervals.at(-1)! }));
  const highest = Math.max(...ends.map((end) => end.mean));
  return ends.map((end) =>
    Plot.text([end], {
      x: 'step',
      y: 'mean',
      text: 'name',
      textAnchor: 'end',
      dy: end.mean === highest ? 16 : -14,
      fill: end.colour,
      className: 'halo',
    }),
  );
}

function describeColumn(
  column: Interval,
  lines: readonly (Line & { intervals: Interval[] })[],
  format: (value: number) => string,
): string {
  const steps =
    column.first === column.last
      ? `step ${formatNumber(column.first)}`
      : `steps ${formatNumber(column.first)} to ${formatNumber(column.last)}`;
  const values = lines.flatMap((line) => {
    const interval = line.intervals.find(({ step }) => step === column.step);
    return interval ? [`${line.name} ${format(interval.mean)}`] : [];
  });
  return [steps, ...values].join('\n');
}

function course(line: { intervals: readonly Interval[] }, format: (value: number) => string): string {
  const first = format(line.intervals[0]!.mean);
  const last = format(line.intervals.at(-1)!.mean);
  const constant = line.intervals.every(({ low, high }) => format(low) === first && format(high) === first);
  return constant ? first : `from ${first} to ${last}`;
}

function caption(
  lines: readonly (Line & { intervals: Interval[] })[],
  format: (value: number) => string,
  summed: boolean,
): string {
  const courses = lines.map((line) => (lines.length > 1 ? `${line.name} ` : '') + course(line, format));
  const sentence = `${courses.join(', ')}.`;
  const how = summed ? ' Line: mean of neighbouring steps; band: smallest to largest.' : '';
  return `${sentence[0]!.toUpperCase()}${sentence.slice(1)}${how}`;
}
