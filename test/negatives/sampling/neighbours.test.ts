import assert from 'node:assert/strict';
import { nearestBySimilarity, nearestOnGlobe } from '../../../src/negatives/sampling/neighbours';
import { Generator, scope, torch } from '../../../src/torch';
import { numbers } from '../../support/close';
import { device } from '../../support/device';
import { rowsOf } from '../clustering/plain';

const random = (shape: number[], seed: number) =>
  torch.randn(shape, { generator: new Generator({ seed }), dtype: 'float64' }).to({ device });
const dot = (a: number[], b: number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

function byLoop(size: number, count: number, score: (a: number, b: number) => number): number[] {
  return Array.from({ length: size }, (_, row) =>
    Array.from({ length: size }, (_unused, other) => other)
      .filter((other) => other !== row)
      .sort((a, b) => score(row, b) - score(row, a))
      .slice(0, count),
  ).flat();
}

describe('neighbours', () => {
  it('are the most similar rows by cosine, without the row itself', () => {
    scope(() => {
      for (const size of [2, 3, 31]) {
        const [queries, gallery] = [random([size, 5], size), random([size, 5], 99)];
        const [q, g] = [rowsOf(queries), rowsOf(gallery)];
        const cosine = (a: number, b: number) => dot(q[a]!, g[b]!) / Math.sqrt(dot(g[b]!, g[b]!));
        const count = Math.min(size - 1, 7);
        assert.deepEqual(numbers(nearestBySimilarity(queries, gallery, count, 'x')), byLoop(size, count, cosine));
      }
      assert.throws(() => nearestBySimilarity(random([2, 3], 1), random([2, 4], 1), 1, 'x'), /one shape and device/);
    });
  });

  it('are the nearest on the globe by the haversine, across the date line and near the poles too', () => {
    scope(() => {
      const places = Array.from({ length: 40 }, (_, i) => [((i * 37) % 179) - 89, ((i * 101) % 359) - 179.5]);
      places.push([10, 179.9], [10, -179.9], [89.9, 0], [89.9, 180]);
      const radians = (degrees: number) => (degrees * Math.PI) / 180;
      const haversine = (a: number, b: number) => {
        const [[lat, lon], [lat2, lon2]] = [places[a]!.map(radians), places[b]!.map(radians)] as [number[], number[]];
        const part = Math.sin((lat2! - lat!) / 2) ** 2;
        return -(part + Math.cos(lat!) * Math.cos(lat2!) * Math.sin((lon2! - lon!) / 2) ** 2);
      };
      const near = nearestOnGlobe(torch.tensor(places, { dtype: 'float64', device }), 5, 'x');
      assert.deepEqual(numbers(near), byLoop(places.length, 5, haversine));
      const first = rowsOf(near).map(([nearest]) => nearest);
      assert.deepEqual([first[40], first[42]], [41, 43]);
    });
  });
});
