import { histogram, type ReportData, type ReportImage } from '../../src/report';

/** A small picture whose pixels differ from each other and from those of other seeds. */
export function image(seed: number, channels: 1 | 3 | 4 = 1): ReportImage {
  const width = 9;
  const height = 7;
  const pixels = Uint8Array.from({ length: width * height * channels }, (_, index) => (index * 37 + seed * 101) % 256);
  return { width, height, channels, pixels };
}

/** A report with every section, of three classes and 300 steps. */
export function fullReport(): ReportData {
  const step = Array.from({ length: 300 }, (_, index) => index + 1);
  const normal = (mean: number, spread: number) =>
    Array.from({ length: 500 }, (_, index) => mean + spread * Math.sin(index * 12.9898) * Math.cos(index * 4.1414));
  const points = Array.from({ length: 90 }, (_, index): [number, number] => [
    (index % 3) * 4 + Math.sin(index),
    Math.cos(index * 1.7) * 2,
  ]);
  const labels = points.map((_, index) => index % 3);
  return {
    title: 'MoCo on a test',
    subtitle: 'Every section is here.',
    facts: {
      recipe: 'recipe.ts',
      'images per second': 1063.44,
      'images seen': 299_520,
      Options: { temperature: 0.1, channelsLast: true, note: null },
      Versions: { kontrast: '0.1.0' },
    },
    table: [
      { name: 'raw pixels', knn: 0.86, linearProbe: 0.84 },
      { name: 'untrained encoder', knn: 0.828, linearProbe: null },
      { name: 'trained encoder', knn: 0.8812, linearProbe: 0.893 },
    ],
    curves: {
      step,
      loss: step.map((value) => 3 + 5 * Math.exp(-value / 50)),
      learningRate: step.map((value) => 0.001 * (1 + Math.cos((Math.PI * value) / 300))),
      positiveSimilarity: step.map((value) => 0.9 - 0.1 / value),
      negativeSimilarity: step.map((value) => 0.1 + 0.8 / value),
      imagesPerSecond: step.map((value) => 1000 + (value % 7)),
      other: [{ name: 'Queue', unit: '% filled', values: step.map((value) => Math.min(100, value)) }],
    },
    histograms: {
      before: { positive: histogram(normal(0.97, 0.02)), negative: histogram(normal(0.9, 0.05)) },
      after: { positive: histogram(normal(0.8, 0.2)), negative: histogram(normal(0, 0.4)) },
    },
    projection: { before: { points, labels }, after: { points: points.map(([x, y]) => [y, x]), labels } },
    classNames: ['T-shirt/top', 'Trouser', 'Ankle boot'],
    neighbours: [0, 1].map((query) => ({
      query: image(query),
      label: query,
      neighbours: [0, 1, 2, 0].map((label, rank) => ({
        image: image(10 * query + rank, rank === 3 ? 3 : 1),
        label,
        similarity: 0.98 - rank * 0.05,
      })),
    })),
  };
}
