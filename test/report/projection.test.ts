import assert from 'node:assert/strict';

import { projectTwoDimensional } from '../../src/report';
import { InvalidArgumentError } from '../../src/torch/errors';

/** Points around three directions of a space, with their group's number. */
function threeGroups(count: number, dimension: number): { features: Float32Array; labels: number[] } {
  const features = new Float32Array(count * dimension);
  const labels = Array.from({ length: count }, (_, index) => index % 3);
  labels.forEach((label, point) => {
    for (let column = 0; column < dimension; column++) {
      const noise = Math.sin(point * 78.233 + column * 12.9898) * 0.3;
      features[point * dimension + column] = (column === label ? 2 : 0) + noise;
    }
  });
  return { features, labels };
}

/** The share of points whose nearest other point has the same label. */
function purity(points: readonly (readonly [number, number])[], labels: readonly number[]): number {
  const right = points.filter(([x, y], index) => {
    let best = Infinity;
    let label = -1;
    points.forEach(([otherX, otherY], other) => {
      const distance = (x - otherX) ** 2 + (y - otherY) ** 2;
      if (other === index || distance >= best) return;
      best = distance;
      label = labels[other]!;
    });
    return label === labels[index];
  });
  return right.length / points.length;
}

describe('projectTwoDimensional', () => {
  const { features, labels } = threeGroups(150, 8);

  for (const method of ['umap', 'pca'] as const) {
    it(`keeps groups together with ${method}`, async () => {
      const points = await projectTwoDimensional(features, 150, 8, { method });
      assert.equal(points.length, 150);
      assert.ok(purity(points, labels) > 0.98);
    });
  }

  it('finds the directions of largest variance', async () => {
    // On the unit circle around (1, 0, 0), the second coordinate varies most, then the third; the first hardly.
    const count = 100;
    const values = new Float32Array(count * 3);
    for (let point = 0; point < count; point++) {
      const second = 0.2 * Math.sin(point * 2.4);
      const third = 0.05 * Math.cos(point * 1.7);
      values.set([Math.sqrt(1 - second ** 2 - third ** 2), second, third], point * 3);
    }
    const points = await projectTwoDimensional(values, count, 3, { method: 'pca' });
    const column = (index: number) => Array.from({ length: count }, (_, point) => values[point * 3 + index]!);
    const correlation = (a: readonly number[], b: readonly number[]): number => {
      const centre = (list: readonly number[]) => list.map((v) => v - list.reduce((s, w) => s + w, 0) / list.length);
      const [u, v] = [centre(a), centre(b)];
      const dot = (p: readonly number[], q: readonly number[]) => p.reduce((s, w, index) => s + w * q[index]!, 0);
      return Math.abs(dot(u, v)) / Math.sqrt(dot(u, u) * dot(v, v));
    };
    assert.ok(
      correlation(
        column(1),
        points.map(([x]) => x),
      ) > 0.999,
    );
    assert.ok(
      correlation(
        column(2),
        points.map(([, y]) => y),
      ) > 0.99,
    );
  });

  it('depends on the seed alone', async () => {
    const once = await projectTwoDimensional(features, 150, 8, { seed: 7 });
    assert.deepEqual(await projectTwoDimensional(features, 150, 8, { seed: 7 }), once);
    assert.notDeepEqual(await projectTwoDimensional(features, 150, 8, { seed: 8 }), once);
  });

  it('takes few points, equal points, zeros and a single dimension', async () => {
    for (const count of [0, 1, 2, 3, 4, 16]) {
      for (const values of [
        threeGroups(count, 5).features,
        new Float32Array(count * 5),
        new Float32Array(count * 5).fill(1),
      ]) {
        const points = await projectTwoDimensional(values, count, 5);
        assert.equal(points.length, count);
        assert.ok(points.flat().every((value) => Number.isFinite(value)));
      }
    }
    const line = await projectTwoDimensional(
      Float32Array.from({ length: 20 }, (_, index) => index - 10),
      20,
      1,
    );
    assert.ok(line.flat().every((value) => Number.isFinite(value)));
  });

  it('leaves the event loop free', async () => {
    const large = threeGroups(600, 32);
    let turns = 0;
    let done = false;
    const turn = (): void => {
      turns++;
      if (!done) setTimeout(turn, 1);
    };
    setTimeout(turn, 1);
    await projectTwoDimensional(large.features, 600, 32);
    done = true;
    assert.ok(turns > 3, `${turns} turns`);
  });

  it('refuses arguments that do not fit', async () => {
    const rejects = async (run: () => Promise<unknown>, message: RegExp): Promise<void> => {
      await assert.rejects(run, (error) => {
        assert.ok(error instanceof InvalidArgumentError);
        assert.match(error.message, message);
        return true;
      });
    };
    await rejects(() => projectTwoDimensional(features, 10, 8), /1200 values, but 10 points of 8 dimensions need 80/);
    await rejects(() => projectTwoDimensional(features, -1, 8), /-1 points/);
    await rejects(() => projectTwoDimensional(new Float32Array(0), 0, 0), /0 dimensions/);
    await rejects(() => projectTwoDimensional(Float32Array.of(1, 2, NaN, 4), 2, 2), /point 1 hold NaN/);
    await rejects(() => projectTwoDimensional(features, 150, 8, { seed: 0.5 }), /seed is 0\.5/);
    await rejects(() => projectTwoDimensional(features, 150, 8, { method: 'tsne' as 'umap' }), /"tsne"/);
    await rejects(() => projectTwoDimensional(features, 150, 8, { neighbours: 1 }), /neighbours is 1/);
    await rejects(() => projectTwoDimensional(features, 150, 8, { minimumDistance: 1 }), /minimumDistance is 1/);
  });
});
