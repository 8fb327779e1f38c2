import { type ChartLibrary, chartWidth, drawChart, shorten } from './chart';
import type { Projection } from './data';
import { Html, html } from './html';
import { formatNumber } from './numbers';
import { paletteClass } from './palette';

const width = chartWidth;
const margin = 14;

/** The shape follows the points, within these heights. */
const lowest = 260;
const highest = 440;

const radius = 2.3;

/** Size of a label in the chart's units: a character's mean width and a line's height. */
const characterWidth = 7.6;
const lineHeight = 15;

interface Label {
  text: string;
  x: number;
  y: number;
}

/**
 * Draws points in the colour of their class, with the name of each class at the median of its points, so that the
 * picture can be read without telling the colours apart.
 */
export function drawProjection(
  library: ChartLibrary,
  title: string,
  { points, labels }: Projection,
  className: (label: number) => string,
  large: boolean,
): Html {
  const { Plot } = library;
  const { height, toChart } = fit(points);
  const placed = points.map((point) => toChart(point));
  const classes = [...new Set(Array.from({ length: points.length }, (_, index) => labels[index]!))];
  const names = separate(
    height,
    classes
      .sort((a, b) => a - b)
      .map((label) =>
        classLabel(
          className(label),
          placed.filter((_, i) => labels[i] === label),
        ),
      ),
  );
  const chart = drawChart(
    library,
    `${title}: ${formatNumber(points.length)} images of ${formatNumber(classes.length)} classes in the plane.`,
    {
      height,
      margin: 0,
      x: { axis: null, domain: [0, width], range: [0, width] },
      y: { axis: null, domain: [0, height], range: [0, height] },
      marks: [
        Plot.dot(placed, { x: '0', y: '1', r: radius, fill: 'currentColor', className: 'points' }),
        Plot.text(names, { x: 'x', y: 'y', text: 'text', fontSize: 13, className: 'halo names' }),
      ],
    },
    (svg) => {
      // The drawing keeps the order of the points. The class goes to each circle, so that the style sheet colours it and
      // can bring out one class, and classes cover each other evenly.
      [...svg.querySelectorAll('circle')].forEach((circle, index) => {
        circle.setAttribute('class', paletteClass(labels[index]!));
        circle.setAttribute('data-class', String(labels[index]));
      });
    },
  );
  return html`<figure class="${large ? 'large' : 'pair'}">
    <h3>${title}</h3>
    ${chart}
    <figcaption>
      ${formatNumber(points.length)} images. Directions and distances between groups have no unit.
    </figcaption>
  </figure>`;
}

/**
 * The choice of a class to bring out, which is the legend too. It works by style rules alone, in every chart of the
 * section.
 */
export function projectionLegend(labels: readonly number[], className: (label: number) => string): Html {
  const rules = labels.map(
    (label) => `.projection:has(#bring-out-${label}:checked) circle:not([data-class="${label}"]) { opacity: 0.07; }`,
  );
  return html`<style>
      ${new Html(rules.join('\n'))}
    </style>
    <fieldset class="legend">
      <legend>Choose a class to bring it out.</legend>
      <div class="options">
        <label><input type="radio" name="bring-out" checked /><span class="swatch every"></span>all</label>
        ${labels.map(
          (label) =>
            html`<label class="${paletteClass(label)}"
              ><input type="radio" name="bring-out" id="bring-out-${label}" /><span class="swatch"></span
              >${className(label)}</label
            > `,
        )}
      </div>
    </fieldset>`;
}

/** The height of the chart and a map of the points into it that keeps angles and shapes. */
function fit(points: Projection['points']): {
  height: number;
  toChart: (point: readonly [number, number]) => [number, number];
} {
  let left = Infinity;
  let right = -Infinity;
  let bottom = Infinity;
  let top = -Infinity;
  for (const [x, y] of points) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    bottom = Math.min(bottom, y);
    top = Math.max(top, y);
  }
  const room = 2 * (margin + radius);
  // Points on one spot or one line have no extent in a direction; any scale then fits there.
  const horizontal = right > left ? (width - room) / (right - left) : Infinity;
  const vertical = top > bottom ? (highest - room) / (top - bottom) : Infinity;
  const smaller = Math.min(horizontal, vertical);
  const scale = Number.isFinite(smaller) ? smaller : 0;
  const height = Math.max(lowest, Math.ceil((top - bottom) * scale + room));
  return {
    height,
    toChart: ([x, y]) => [width / 2 + (x - (left + right) / 2) * scale, height / 2 - (y - (bottom + top) / 2) * scale],
  };
}

function classLabel(text: string, members: readonly (readonly [number, number])[]): Label {
  return { text: shorten(text, 24), x: median(members.map(([x]) => x)), y: median(members.map(([, y]) => y)) };
}

function median(values: number[]): number {
  const sorted = values.sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

/** Moves labels that cover each other apart, upwards and downwards by equal parts, and keeps them inside the chart. */
function separate(height: number, labels: Label[]): Label[] {
  for (let round = 0; round < 200; round++) {
    let moved = false;
    for (const [index, first] of labels.entries()) {
      for (const second of labels.slice(index + 1)) {
        const apart = Math.abs(first.x - second.x) - ((first.text.length + second.text.length) / 2) * characterWidth;
        const overlap = lineHeight - Math.abs(first.y - second.y);
        if (apart >= 0 || overlap <= 0) continue;
        const direction = first.y <= second.y ? 1 : -1;
        first.y -= (direction * overlap) / 2;
        second.y += (direction * overlap) / 2;
        moved = true;
      }
    }
    for (const label of labels) {
      const half = Math.min(width / 2, (label.text.length / 2) * characterWidth + margin / 2);
      label.x = Math.min(width - half, Math.max(half, label.x));
      label.y = Math.min(height - lineHeight, Math.max(lineHeight, label.y));
    }
    if (!moved) break;
  }
  return labels;
}
