import * as assert from 'node:assert/strict';
import { ImageSet } from '../../src/data/image-set';
import { DataLoader, type DataLoaderOptions } from '../../src/data/loader';
import { memory, scope, torch, type Device } from '../../src/torch';
import { InvalidArgumentError } from '../../src/torch/errors';

const device = (process.env.KONTRAST_TEST_DEVICE ?? 'cpu') as Device;

/** Image i is filled with i, its label is i mod 3. */
function numbered(count: number): ImageSet {
  const number = torch.arange(count);
  return new ImageSet({
    images: number.to('uint8').view([count, 1, 1, 1]).expand([count, 1, 2, 2]).contiguous().to(device),
    labels: number.remainder(3).to(device),
    classNames: ['a', 'b', 'c'],
  });
}

describe('DataLoader', () => {
  const set = numbered(10);
  const loader = (options: Partial<DataLoaderOptions> = {}) =>
    new DataLoader({ set, batchSize: 4, seed: 5, ...options });
  const numbers = (tensor: { dataSync(): ArrayLike<number | bigint> }) => Array.from(tensor.dataSync(), Number);
  /** The positions of the next batches, checked against the images and labels. */
  const take = (from: DataLoader, batches: number) =>
    Array.from({ length: batches }, () =>
      scope(() => {
        const batch = from.next();
        const indices = numbers(batch.indices);
        assert.deepEqual(numbers(batch.images.select(1, 0).flatten(1).amax([1])), indices);
        assert.deepEqual(batch.images.shape, [indices.length, 1, 2, 2]);
        assert.deepEqual(
          numbers(batch.labels),
          indices.map((i) => i % 3),
        );
        return indices;
      }),
    );
  const sorted = (indices: number[][]) => indices.flat().sort((a, b) => a - b);
  const all = Array.from({ length: 10 }, (_, i) => i);

  it('hands out each image once an epoch, in an order of its own for each epoch', () => {
    const from = loader();
    assert.equal(from.batchesPerEpoch, 3);
    assert.equal(from.imagesPerEpoch, 10);
    const first = take(from, 3);
    const second = take(from, 3);
    assert.deepEqual(
      first.map((batch) => batch.length),
      [4, 4, 2],
    );
    assert.deepEqual(sorted(first), all);
    assert.deepEqual(sorted(second), all);
    assert.notDeepEqual(first, second);
    assert.notDeepEqual(first.flat(), all);
    assert.equal(from.currentEpoch, 2);
  });

  it('follows from the seed alone', () => {
    assert.deepEqual(take(loader(), 7), take(loader(), 7));
    assert.notDeepEqual(take(loader(), 7), take(loader({ seed: 6 }), 7));
  });

  it('keeps the order without shuffling, and leaves out a short batch on request', () => {
    assert.deepEqual(take(loader({ shuffle: false }), 4), [
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
      [0, 1, 2, 3],
    ]);
    const short = loader({ dropLast: true, shuffle: false });
    assert.equal(short.batchesPerEpoch, 2);
    assert.equal(short.imagesPerEpoch, 8);
    assert.deepEqual(take(short, 3), [
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [0, 1, 2, 3],
    ]);
  });

  it('iterates over an epoch: the rest of the current one, all of another', () => {
    const indices = (from: DataLoader, epoch?: number) =>
      Array.from(from.epoch(epoch), (batch) => numbers(batch.indices));
    const straight = take(loader(), 9);
    const from = loader();
    assert.deepEqual(take(from, 1), straight.slice(0, 1));
    assert.deepEqual(indices(from), straight.slice(1, 3));
    assert.deepEqual(indices(from, 2), straight.slice(6, 9));
    assert.deepEqual(indices(from, 0), straight.slice(0, 3));
    assert.equal(from.currentEpoch, 1);
    assert.throws(() => indices(from, -1), InvalidArgumentError);
  });

  it('frees each batch of an epoch when the next is asked for, also when the loop is left', () => {
    const from = loader();
    take(from, 1);
    const before = memory().liveTensors;
    for (const batch of from.epoch()) {
      assert.equal(memory().liveTensors, before + 3);
      assert.equal(batch.epoch, 0);
      break;
    }
    assert.equal(memory().liveTensors, before);
    from.dispose();
    assert.equal(memory().liveTensors, before - 1);
  });

  it('goes on with the very same batches from any position', () => {
    for (const options of [{}, { dropLast: true }, { shuffle: false }, { batchSize: 10 }, { batchSize: 3, seed: 9 }]) {
      const straight = take(loader(options), 12);
      for (let stop = 0; stop <= 8; stop++) {
        const before = loader(options);
        take(before, stop);
        const { values } = JSON.parse(JSON.stringify(before.stateDict())) as { values: null };
        const after = loader(options);
        take(after, 2);
        after.loadStateDict({ tensors: new Map(), values });
        assert.deepEqual([after.currentEpoch, after.position], [before.currentEpoch, before.position]);
        assert.deepEqual(take(after, 12 - stop), straight.slice(stop));
      }
    }
  });

  it('refuses the state of a loader that would hand out other batches, and stays as it was', () => {
    const { values } = loader().stateDict();
    const fresh = take(loader(), 1);
    const refuses = (other: DataLoader, state: object | null, part: string) =>
      assert.throws(
        () => other.loadStateDict({ tensors: new Map(), values: state as never }),
        (error) => error instanceof InvalidArgumentError && error.message.includes(part),
        part,
      );
    refuses(loader({ seed: 6 }), values as object, 'seed 5');
    refuses(loader({ batchSize: 5 }), values as object, 'batchSize 4');
    refuses(loader({ shuffle: false }), values as object, 'shuffle true');
    refuses(loader({ dropLast: true }), values as object, 'dropLast false');
    refuses(loader({ set: numbered(11) }), values as object, 'size 10');
    const other = loader();
    for (const position of [10, 12, -4, 1, 0.5, 'x', null])
      refuses(other, { ...(values as object), position }, 'position');
    for (const epoch of [-1, 0.5, undefined]) refuses(other, { ...(values as object), epoch }, 'epoch');
    refuses(other, null, 'object');
    assert.deepEqual(take(other, 1), fresh);
  });

  it('rejects options that give no batches', () => {
    for (const batchSize of [0, -1, 2.5, NaN]) assert.throws(() => loader({ batchSize }), InvalidArgumentError);
    assert.throws(() => loader({ seed: -1 }), InvalidArgumentError);
    assert.throws(() => loader({ dropLast: true, batchSize: 11 }), /10 images/);
    assert.throws(() => loader({ set: set.subset([]) }), /0 images/);
  });
});
