import * as assert from 'node:assert/strict';
import { ImageSet } from '../../src/data/image-set';
import { DataLoader, type DataLoaderOptions, type SampledBatch, type Sampler } from '../../src/data/loader';
import { memory, scope, torch, type Device, type JsonValue, type StateDict } from '../../src/torch';
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

  describe('with a sampler', () => {
    /** Backwards in batches of three, from a place that moves by one each epoch. */
    class Backwards implements Sampler {
      readonly size = 10;
      readonly batchesPerEpoch = 3;
      currentEpoch = 0;
      position = 0;

      next(): SampledBatch {
        const [epoch, step] = [this.currentEpoch, this.position];
        const indices = Int32Array.from([0, 1, 2], (row) => (19 - epoch - 3 * step - row) % 10);
        this.position++;
        if (this.position === 3) this.startEpoch(epoch + 1);
        return { indices, epoch, step };
      }

      startEpoch(number: number): void {
        this.currentEpoch = number;
        this.position = 0;
      }

      stateDict(): StateDict {
        return {
          tensors: new Map([['mark', torch.tensor([this.position])]]),
          values: { epoch: this.currentEpoch, position: this.position },
        };
      }

      checkStateDict(): void {
        // Any will do.
      }

      loadStateDict({ tensors, values }: StateDict): void {
        const { epoch, position } = values as { epoch: number; position: number };
        assert.deepEqual(numbers(tensors.get('mark')!), [position]);
        this.currentEpoch = epoch;
        this.position = position;
      }
    }
    const sampled = () => new DataLoader({ set, sampler: new Backwards() });

    it('hands out the batches that the sampler chose', () => {
      const from = sampled();
      assert.deepEqual(take(from, 4), [
        [9, 8, 7],
        [6, 5, 4],
        [3, 2, 1],
        [8, 7, 6],
      ]);
      assert.deepEqual([from.currentEpoch, from.position, from.batchesPerEpoch], [1, 1, 3]);
      assert.throws(() => from.imagesPerEpoch, /counts batches/);
      assert.deepEqual(
        Array.from(from.epoch(), (batch) => [batch.epoch, ...numbers(batch.indices)]),
        [
          [1, 5, 4, 3],
          [1, 2, 1, 0],
        ],
      );
      assert.deepEqual(
        Array.from(from.epoch(0), (batch) => numbers(batch.indices)),
        take(sampled(), 3),
      );
    });

    it('saves and resumes it', () => {
      const before = sampled();
      take(before, 4);
      const state = before.stateDict();
      const after = sampled();
      after.loadStateDict({ tensors: state.tensors, values: JSON.parse(JSON.stringify(state.values)) as JsonValue });
      assert.deepEqual(take(after, 4), take(before, 4));
      assert.throws(() => sampled().loadStateDict(loader().stateDict()), /no part 'sampler'/);
      assert.throws(() => loader().loadStateDict(before.stateDict()), /'epoch' must be a number/);
    });

    it('frees what it makes', () => {
      const from = sampled();
      const before = memory().liveTensors;
      for (const batch of from.epoch()) assert.equal(memory().liveTensors, before + 3, `batch of epoch ${batch.epoch}`);
      assert.equal(memory().liveTensors, before);
    });

    it('refuses options beside it, and another size', () => {
      const sampler = new Backwards();
      for (const more of [{ batchSize: 4 }, { shuffle: true }, { dropLast: false }, { seed: 0 }]) {
        const name = Object.keys(more)[0]!;
        assert.throws(() => new DataLoader({ set, sampler, ...more }), new RegExp(`takes no ${name}`));
      }
      assert.throws(() => new DataLoader({ set: numbered(11), sampler }), /11 images, the sampler has 10 rows/);
    });
  });

  it('rejects options that give no batches', () => {
    for (const batchSize of [0, -1, 2.5, NaN]) assert.throws(() => loader({ batchSize }), InvalidArgumentError);
    assert.throws(() => loader({ seed: -1 }), InvalidArgumentError);
    assert.throws(() => loader({ dropLast: true, batchSize: 11 }), /10 images/);
    assert.throws(() => loader({ set: set.subset([]) }), /0 images/);
  });
});
