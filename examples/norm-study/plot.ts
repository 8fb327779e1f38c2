/** The accuracy of every norm at every batch size, as an SVG. */
import type { NormName } from './recipe';
import type { Outcome, Results } from './study';

const colors = ['#0b63a8', '#b04a00', '#1a7f37', '#832db6', '#c0261c'];
const [width, left, right, top, rowHeight] = [720, 140, 20, 56, 30];

/** Whole percents around the values. */
function range(values: readonly number[]): [number, number] {
  return [Math.floor(Math.min(...values)), Math.ceil(Math.max(...values))];
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, x) => sum + x, 0) / values.length;
}

/**
 * One row a norm: a dot a batch size at the mean over the seeds, a line from the lowest to the highest seed, a ring before training.
 *
 * @returns the whole image
 */
export function plot(results: Results, norms: readonly NormName[], batchSizes: readonly number[]): string {
  const { outcomes, untrained, pixels } = results;
  const [low, high] = range([
    ...outcomes.map(({ kNN }) => kNN),
    ...Object.values(untrained).flat(),
    ...(pixels === null ? [] : [pixels]),
  ]);
  const bottom = top + norms.length * rowHeight;
  const x = (percent: number): string => (left + ((percent - low) / (high - low)) * (width - left - right)).toFixed(1);
  const ring = (cx: string, cy: number): string =>
    `<circle cx="${cx}" cy="${cy}" r="4" fill="white" stroke="#59636e" stroke-width="1.5"/>`;
  const parts: string[] = [];

  const step = high - low > 12 ? 5 : 1;
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) {
    parts.push(`<line x1="${x(tick)}" x2="${x(tick)}" y1="${top}" y2="${bottom}" stroke="#dde1e6"/>`);
    parts.push(`<text x="${x(tick)}" y="${bottom + 18}" text-anchor="middle">${tick} %</text>`);
  }
  parts.push(
    `<text x="${(left + width - right) / 2}" y="${bottom + 36}" text-anchor="middle">kNN accuracy on the test images</text>`,
  );
  if (pixels !== null) {
    parts.push(
      `<line x1="${x(pixels)}" x2="${x(pixels)}" y1="${top - 8}" y2="${bottom}" stroke="#1b1f24" stroke-dasharray="4 3"/>`,
    );
    parts.push(`<text x="${x(pixels)}" y="${top - 12}" text-anchor="middle">raw pixels</text>`);
  }

  norms.forEach((norm, row) => {
    const middle = top + (row + 0.5) * rowHeight;
    parts.push(`<text x="${left - 12}" y="${middle + 4}" text-anchor="end">${norm}</text>`);
    const before = untrained[norm] ?? [];
    if (before.length > 0) parts.push(ring(x(mean(before)), middle));
    batchSizes.forEach((size, index) => {
      const found = outcomes.filter((each: Outcome) => each.norm === norm && each.batchSize === size);
      if (found.length === 0) return;
      const values = found.map(({ kNN }) => kNN);
      const y = middle + (index - (batchSizes.length - 1) / 2) * 7;
      const color = colors[index % colors.length]!;
      parts.push(
        `<line x1="${x(Math.min(...values))}" x2="${x(Math.max(...values))}" y1="${y}" y2="${y}" stroke="${color}" stroke-width="2"/>`,
      );
      parts.push(`<circle cx="${x(mean(values))}" cy="${y}" r="4" fill="${color}"/>`);
    });
  });

  const keys = [...batchSizes.map((size) => `batches of ${size}`), 'untrained'];
  keys.forEach((key, index) => {
    const cx = left + index * 120;
    const color = colors[index % colors.length]!;
    parts.push(index < batchSizes.length ? `<circle cx="${cx}" cy="16" r="4" fill="${color}"/>` : ring(String(cx), 16));
    parts.push(`<text x="${cx + 10}" y="20">${key}</text>`);
  });
  const height = bottom + 48;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `font-family="sans-serif" font-size="12" fill="#1b1f24"><rect width="100%" height="100%" fill="white"/>${parts.join('')}</svg>\n`
  );
}
