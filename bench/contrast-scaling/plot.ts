/** Time and memory over N, both on logarithmic scales, as an SVG. */
import type { Row } from './run';

interface Panel {
  title: string;
  unit: string;
  value: (row: Row) => number;
  /** From here on it is worth showing. */
  least: number;
}

const panels: Panel[] = [
  { title: 'time, forward and backward', unit: 's', value: ({ seconds }) => seconds, least: 0 },
  { title: 'memory beyond embeddings and gradients', unit: 'MiB', value: ({ bytes }) => bytes / 2 ** 20, least: 1 },
];
const colors = { tiled: '#1f6feb', dense: '#cf222e' } as const;
const [width, height, left, top] = [380, 300, 60, 40];

/** The powers of ten around the values. */
function decades(values: readonly number[]): [number, number] {
  return [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))];
}

function drawPanel({ title, unit, value, least: smallest }: Panel, all: readonly Row[], offset: number): string {
  const rows = all.filter((row) => value(row) > smallest);
  const counts = rows.map(({ count }) => count);
  const [least, most] = [Math.log2(Math.min(...counts)), Math.log2(Math.max(...counts))];
  const [low, high] = decades(rows.map(value));
  const x = (count: number): number => left + ((Math.log2(count) - least) / (most - least)) * (width - left - 20);
  const y = (amount: number): number => height - 40 - ((Math.log10(amount) - low) / (high - low)) * (height - 40 - top);
  const parts = [`<text x="${width / 2}" y="20" text-anchor="middle" font-weight="bold">${title}</text>`];
  for (let power = low; power <= high; power++) {
    const place = y(10 ** power).toFixed(1);
    parts.push(`<line x1="${left}" x2="${width - 20}" y1="${place}" y2="${place}" stroke="#ddd"/>`);
    parts.push(`<text x="${left - 6}" y="${place}" dy="4" text-anchor="end">${String(10 ** power)} ${unit}</text>`);
  }
  for (const count of new Set(counts)) {
    const name = count >= 1024 ? `${String(count / 1024)}k` : String(count);
    parts.push(`<text x="${x(count).toFixed(1)}" y="${height - 20}" text-anchor="middle">${name}</text>`);
  }
  for (const execution of ['tiled', 'dense'] as const) {
    const own = rows.filter((row) => row.execution === execution);
    const points = own.map((row) => `${x(row.count).toFixed(1)},${y(value(row)).toFixed(1)}`);
    parts.push(`<polyline points="${points.join(' ')}" fill="none" stroke="${colors[execution]}" stroke-width="2"/>`);
    for (const point of points) {
      const [cx, cy] = point.split(',');
      parts.push(`<circle cx="${cx!}" cy="${cy!}" r="3" fill="${colors[execution]}"/>`);
    }
    const last = own.at(-1);
    if (last !== undefined) {
      const place = `x="${(x(last.count) - 8).toFixed(1)}" y="${(y(value(last)) - 8).toFixed(1)}"`;
      parts.push(`<text ${place} text-anchor="end" fill="${colors[execution]}">${execution}</text>`);
    }
  }
  return `<g transform="translate(${offset},0)">${parts.join('')}</g>`;
}

/** @returns the whole image */
export function plot(rows: readonly Row[]): string {
  const drawn = panels.map((panel, i) => drawPanel(panel, rows, i * width)).join('');
  const whole = panels.length * width;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${whole}" height="${height}" font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>${drawn}</svg>\n`;
}
