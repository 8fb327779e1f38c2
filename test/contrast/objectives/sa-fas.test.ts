import { saFas } from '../../../src/contrast/objectives/sa-fas';
import { scope } from '../../../src/torch';
import { assertRefuses, assertValue, cosine, ids, mean, random, rowsOf, sumExp } from './plain';

describe('saFas', () => {
  it('has positives of one label and one domain only', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 17]) {
        const views = [random([count, 4]), random([count, 4])];
        // Labels and domains that would run together if one were just added to the other.
        const labels = Array.from({ length: count }, (_, i) => (i % 3) - 1);
        const domains = Array.from({ length: count }, (_, i) => Math.floor(i / 2) % 3);
        const rows = views.flatMap(rowsOf);
        const losses = rows.map((row, a) => {
          const score = (b: number): number => cosine(row, rows[b]!) / 0.1;
          const others = rows.map((_, b) => b).filter((b) => b !== a);
          const isPositive = (b: number): boolean =>
            labels[b % count] === labels[a % count] && domains[b % count] === domains[a % count];
          return Math.log(sumExp(others.map(score))) - mean(others.filter(isPositive).map(score));
        });
        for (const execution of ['dense', 'tiled'] as const) {
          assertValue(saFas(views, ids(labels), ids(domains), { execution }), mean(losses));
        }
      }
    });
  });

  it('refuses what does not fit', () => {
    const a = random([2, 3]);
    assertRefuses(() => saFas([a], ids([0, 1]), ids([0, 1])), /views must be two tensors or more/);
    assertRefuses(() => saFas([a, a], ids([0]), ids([0, 1])), /saFas: labels: expected shape \[2\]/);
    assertRefuses(() => saFas([a, a], ids([0, 1]), ids([0])), /saFas: domains: expected shape \[2\]/);
  });
});
