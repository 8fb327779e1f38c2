import assert from 'node:assert/strict';
import { Generator, gradcheck, torch, type Tensor } from '../../src/torch';
import { standardizeBatchStyles } from '../../src/norm/batch-styles';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';

interface Complex {
  re: number;
  im: number;
}

/** The transform of one channel, by the definition: [frequency row][frequency column]. */
function transform(image: number[][]): Complex[][] {
  const [height, width] = [image.length, image[0]!.length];
  return image.map((_, u) =>
    image[0]!.map((_, v) => {
      const sum = { re: 0, im: 0 };
      image.forEach((row, y) =>
        row.forEach((value, x) => {
          const angle = -2 * Math.PI * ((u * y) / height + (v * x) / width);
          sum.re += value * Math.cos(angle);
          sum.im += value * Math.sin(angle);
        }),
      );
      return sum;
    }),
  );
}

const channelOf = (x: Tensor, image: number, channel: number): number[][] => {
  const flat = numbers(x.select(0, image).select(0, channel));
  const width = x.sizeOf(3);
  return Array.from({ length: x.sizeOf(2) }, (_, row) => flat.slice(row * width, (row + 1) * width));
};

/** What the same generator draws for a fixed share. */
function styleDrawn(seed: number, samples: number): number {
  const generator = new Generator({ seed });
  torch.rand([], { dtype: 'float64', generator });
  return torch.randint(samples, [1], { generator }).itemSync();
}

describe('standardizeBatchStyles', () => {
  it('has the drawn image’s amplitudes at low frequencies, and keeps all else', () => {
    for (const [height, width, share, rows, columns] of [
      [5, 7, 0.25, 1, 1],
      [6, 4, 0.25, 1, 1],
      [6, 5, 1, 3, 2],
      [4, 4, 0.001, 0, 0],
    ] as const) {
      const x = torch.rand([3, 2, height, width], { dtype, device });
      const style = styleDrawn(3, 3);
      const y = standardizeBatchStyles(x, { areaRatio: share, generator: new Generator({ seed: 3 }) });
      for (const image of [0, 1, 2]) {
        for (const channel of [0, 1]) {
          const [before, drawn, after] = [x, x, y].map((images, which) =>
            transform(channelOf(images, which === 1 ? style : image, channel)),
          ) as [Complex[][], Complex[][], Complex[][]];
          after.forEach((row, u) =>
            row.forEach((value, v) => {
              const low = Math.min(u, height - u) <= rows && Math.min(v, width - v) <= columns;
              const old = before[u]![v]!;
              const from = low ? drawn[u]![v]! : old;
              const scale = Math.hypot(from.re, from.im) / Math.hypot(old.re, old.im);
              assert.ok(Math.abs(value.re - old.re * scale) < 1e-10 && Math.abs(value.im - old.im * scale) < 1e-10);
            }),
          );
        }
      }
      assertClose(y.select(0, style), x.select(0, style), { atol: 1e-10 });
    }
  });

  it('follows from its generator, and draws anew for each view', () => {
    const x = torch.rand([8, 1, 8, 8], { device });
    const views = (seed: number): Tensor[] => {
      const generator = new Generator({ seed });
      return [0, 1, 2].map(() => standardizeBatchStyles(x, { generator }));
    };
    const [a, b] = [views(1), views(1)];
    a.forEach((view, index) => assertClose(view, b[index]!, { atol: 0, rtol: 0 }));
    assert.ok([a[1]!, a[2]!, views(2)[0]!].some((view) => view.sub(a[0]!).abs().max().itemSync() > 1e-3));
    const means = numbers(a[0]!.mean([1, 2, 3]));
    assert.ok(Math.max(...means) - Math.min(...means) < 1e-5);
    assert.ok(Math.max(...numbers(x.mean([1, 2, 3]))) - Math.min(...numbers(x.mean([1, 2, 3]))) > 1e-3);
  });

  it('passes the finite-difference check, and takes black images', () => {
    const x = torch.rand([2, 1, 4, 3], { dtype, device }).requiresGrad_();
    gradcheck(
      (images) => standardizeBatchStyles(images, { areaRatio: 0.5, generator: new Generator({ seed: 2 }) }),
      [x],
    );
    const black = torch.cat([torch.zeros([1, 1, 4, 4]), torch.ones([1, 1, 4, 4])]).to({ device });
    const y = standardizeBatchStyles(black, { areaRatio: 1, generator: new Generator({ seed: 4 }) });
    assert.ok(numbers(y).every(Number.isFinite));
  });

  it('refuses what it cannot transform', () => {
    assert.throws(() => standardizeBatchStyles(torch.zeros([2, 4, 4])), /expected images \[N, C, H, W\]/);
    assert.throws(() => standardizeBatchStyles(torch.zeros([0, 1, 4, 4])), /found float32 \[0, 1, 4, 4\]/);
    assert.throws(() => standardizeBatchStyles(torch.zeros([1, 1, 4, 4], { dtype: 'uint8' })), /found uint8/);
    const images = torch.zeros([1, 1, 4, 4]);
    assert.throws(() => standardizeBatchStyles(images, { areaRatio: 0 }), /areaRatio/);
    assert.throws(() => standardizeBatchStyles(images, { areaRatio: [0.5, 0.4] }), /areaRatio/);
  });
});
