import { type ChartLibrary, drawChart, shorten } from './chart';
import type { ReportTableRow } from './data';
import { type Html, html } from './html';
import { formatNumber, formatPercent, formatPoints } from './numbers';

interface Measure {
  title: string;
  colour: string;
  symbol: 'circle' | 'diamond2';
  value: (row: ReportTableRow) => number | null | undefined;
}

const measures: readonly Measure[] = [
  { title: 'kNN', colour: 'var(--first)', symbol: 'circle', value: (row) => row.knn },
  { title: 'linear probe', colour: 'var(--second)', symbol: 'diamond2', value: (row) => row.linearProbe },
];

function isNumber(value: number | null | undefined): value is number {
  return typeof value === 'number';
}

/** The measures of which at least one row has a value. */
function measured(rows: readonly ReportTableRow[]): readonly Measure[] {
  return measures.filter(({ value }) => rows.some((row) => isNumber(value(row))));
}

/** The result table: accuracies, the best of each column in bold, and differences to the first row in points. */
export function accuracyTable(rows: readonly ReportTableRow[]): Html {
  const shown = measured(rows);
  const baseline = rows[0]!;
  const cell = ({ value }: Measure, row: ReportTableRow): Html => {
    const own = value(row);
    if (!isNumber(own)) return html`<td><span aria-label="not measured">–</span></td>`;
    const best = own === Math.max(...rows.map(value).filter(isNumber));
    const first = value(baseline);
    const difference = row !== baseline && isNumber(first) ? formatPoints(own - first) : '';
    return html`<td>
      ${best ? html`<span class="best">${formatPercent(own)}</span>` : formatPercent(own)} <small>${difference}</small>
    </td>`;
  };
  return html`<div class="scroll">
    <table>
      <caption>
        Accuracy on the test images. Small: points above or below ${baseline.name}.
      </caption>
      <thead>
        <tr>
          <th scope="col">Features</th>
          ${shown.map(({ title }) => html`<th scope="col">${title}<small></small></th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (row) =>
            html`<tr>
              <th scope="row">${row.name}</th>
              ${shown.map((measure) => cell(measure, row))}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** Draws the accuracies as marks on one line a row; nothing where no accuracy was measured. */
export function drawAccuracies(library: ChartLibrary, rows: readonly ReportTableRow[]): Html | null {
  const { Plot } = library;
  const shown = measured(rows);
  if (shown.length === 0) return null;
  // Rows may share a name, so that their places are told apart by number.
  const entries = rows.flatMap((row, place) =>
    shown.flatMap((measure) => {
      const value = measure.value(row);
      return isNumber(value) ? [{ place, name: row.name, measure, value }] : [];
    }),
  );
  const values = entries.map(({ value }) => value);
  const low = Math.max(0, Math.floor(Math.min(...values) * 50 - 0.25) / 50);
  const high = Math.min(1, Math.ceil(Math.max(...values) * 50 + 0.25) / 50);
  const chart = drawChart(
    library,
    `Accuracies: ${entries.map(({ name, measure, value }) => `${name}, ${measure.title} ${formatPercent(value)}`).join('; ')}.`,
    {
      height: 70 + 46 * rows.length,
      marginTop: 34,
      marginRight: 16,
      marginBottom: 36,
      marginLeft: 16,
      x: {
        label: 'accuracy',
        labelAnchor: 'center',
        labelArrow: 'none',
        domain: [low, high],
        ticks: 5,
        tickFormat: (value: number) => `${formatNumber(value * 100)}%`,
        grid: true,
      },
      y: { axis: null, domain: rows.map((_, place) => place), type: 'point', padding: 0.6 },
      marks: [
        Plot.ruleY(rows, { y: (_, place) => place, stroke: 'var(--line)' }),
        Plot.text(rows, {
          x: low,
          y: (_, place) => place,
          text: (row: ReportTableRow) => shorten(row.name, 52),
          textAnchor: 'start',
          dy: -13,
          fill: 'var(--text)',
          className: 'halo',
        }),
        ...shown.map(({ title, colour, symbol }) =>
          Plot.dot(
            entries.filter(({ measure }) => measure.title === title),
            {
              x: 'value',
              y: 'place',
              r: 6,
              symbol,
              fill: colour,
              stroke: 'var(--page)',
              className: 'accuracies',
              title: ({ name, value }: { name: string; value: number }) => `${name}\n${title}: ${formatPercent(value)}`,
            },
          ),
        ),
        ...legend(library, shown),
      ],
    },
  );
  return html`<figure>${chart}</figure>`;
}

/** The meaning of the marks, in a line above the chart. */
function legend({ Plot }: ChartLibrary, shown: readonly Measure[]) {
  return shown.flatMap(({ title, colour, symbol }, index) => [
    Plot.dot([title], {
      frameAnchor: 'top-left',
      dx: 6 + index * 80,
      dy: -22,
      r: 5,
      symbol,
      fill: colour,
    }),
    Plot.text([title], {
      frameAnchor: 'top-left',
      dx: 17 + index * 80,
      dy: -27,
      fill: 'var(--text)',
      className: 'key',
    }),
  ]);
}
