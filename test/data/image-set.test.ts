import * as assert from 'node:assert/strict';
import { ImageSet } from '../../src/data/image-set';
import { memory, scope, torch, type Device } from '../../src/torch';
import { InvalidArgumentError } from '../../src/torch/errors';

const device = (process.env.KONTRAST_TEST_DEVICE ?? 'cpu') as Device;

function numbered(count: number): ImageSet {
  return ImageSet.fromCache(
    {
      name: 'numbers',
      split: 'train',
      source: 'a test',
      channels: 1,
      height: 2,
      width: 3,
      classNames: ['even', 'odd'],
      dropped: [{ class: 0, row: 2, reason: 'the row is empty' }],
      count,
      images: Uint8Array.from({ length: count * 6 }, (_, i) => i),
      labels: Uint8Array.from({ length: count }, (_, i) => i % 2),
    },
    device,
  );
}

describe('ImageSet', () => {
  it('holds what a cache holds', () => {
    const set = numbered(4);
    assert.equal(set.name, 'numbers (train)');
    assert.equal(set.size, 4);
    assert.equal(set.images.dtype, 'uint8');
    assert.equal(set.labels.dtype, 'int64');
    assert.deepEqual(set.images.shape, [4, 1, 2, 3]);
    assert.deepEqual(
      Array.from(set.images.flatten().dataSync(), Number),
      Array.from({ length: 24 }, (_, i) => i),
    );
    assert.deepEqual(set.labels.toArraySync(), [0n, 1n, 0n, 1n]);
    assert.deepEqual(set.dropped, [{ class: 0, row: 2, reason: 'the row is empty' }]);
    set.dispose();
    assert.ok(set.images.isDisposed && set.labels.isDisposed);
  });

  it('outlives the scope that it was made in', () => {
    const set = scope(() => {
      const made = numbered(4);
      return { made };
    }).made;
    assert.equal(set.images.sum().itemSync(), (23 * 24) / 2);
    set.dispose();
  });

  it('gives subsets by count, positions and tensor', () => {
    const set = numbered(5);
    const first = set.subset(2);
    assert.deepEqual(first.labels.toArraySync(), [0n, 1n]);
    const chosen = set.subset([3, 0, 3]);
    assert.deepEqual(chosen.labels.toArraySync(), [1n, 0n, 1n]);
    assert.deepEqual(
      chosen.images.flatten(1).toArraySync(),
      [18, 0, 18].map((start) => Array.from({ length: 6 }, (_, i) => start + i)),
    );
    const rows = torch.tensor([4n], { device });
    const last = set.subset(rows);
    assert.deepEqual(last.labels.toArraySync(), [0n]);
    assert.deepEqual(last.classNames, ['even', 'odd']);
    assert.ok(!rows.isDisposed);
    assert.equal(set.subset([]).size, 0);
    for (const wrong of [6, -1, 1.5]) assert.throws(() => set.subset(wrong), InvalidArgumentError);
    for (const wrong of [5, -1, 0.5]) assert.throws(() => set.subset([0, wrong]), InvalidArgumentError);
  });

  it('frees what it needs on the way', () => {
    const set = numbered(5);
    const before = memory().liveTensors;
    const subset = set.subset([1, 2]);
    assert.equal(memory().liveTensors, before + 2);
    subset.dispose();
    set.dispose();
    assert.equal(memory().liveTensors, before - 2);
  });

  it('moves to a device', () => {
    const set = numbered(3);
    assert.equal(set.to(set.device), set);
    const onCpu = set.to('cpu');
    assert.equal(onCpu.device, 'cpu');
    assert.deepEqual(onCpu.labels.toArraySync(), [0n, 1n, 0n]);
  });

  it('rejects what does not fit together', () => {
    const images = torch.zeros([2, 1, 2, 2], { dtype: 'uint8' });
    const labels = torch.tensor([0n, 1n]);
    const classNames = ['a', 'b'];
    const rejects = (options: Partial<ConstructorParameters<typeof ImageSet>[0]>, part: string) =>
      assert.throws(
        () => new ImageSet({ images, labels, classNames, ...options }),
        (error) => error instanceof InvalidArgumentError && error.message.includes(part),
      );
    rejects({ images: images.to('float32') }, 'uint8 [N, C, H, W]');
    rejects({ images: images.flatten(1) }, 'uint8 [N, C, H, W]');
    rejects({ labels: torch.tensor([0n]) }, 'int64 [2]');
    rejects({ labels: labels.to('float32') }, 'int64 [2]');
    rejects({ classNames: ['a'] }, 'from 0 to 1');
    rejects({ labels: torch.tensor([-1n, 0n]) }, 'from -1 to 0');
  });
});
