import assert from 'node:assert/strict';
import fc from 'fast-check';
import { InvalidArgumentError, memory, scope, torch, type Tensor } from '../../src/torch';
import { Queue, type StoredDType } from '../../src/memory';
import { numbers } from '../support/close';
import { device } from '../support/device';

const rows = (from: number, count: number, dimension: number) =>
  torch.arange(from * dimension, (from + count) * dimension, { dtype: 'float32', device }).view([count, dimension]);

describe('Queue', () => {
  it('agrees with a plain array for any sequence of batches', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 12 }),
        (size, dimension, batches) =>
          scope(() => {
            const queue = new Queue({ size, dimension, device });
            // The model: a list of slots, and the total number of rows ever put in.
            const slots: number[][] = [];
            let total = 0;
            for (const wanted of batches) {
              const count = Math.min(wanted, size);
              const batch = rows(total, count, dimension);
              queue.enqueue(batch);
              const values = numbers(batch);
              for (let row = 0; row < count; row++) {
                slots[(total + row) % size] = values.slice(row * dimension, (row + 1) * dimension);
              }
              total += count;
              assert.equal(queue.filled, Math.min(total, size));
              assert.equal(queue.pointer, total % size);
              assert.deepEqual(queue.entries().shape, [queue.filled, dimension]);
              assert.deepEqual(numbers(queue.entries()), slots.flat());
            }
            queue.dispose();
          }),
      ),
      { numRuns: 60, seed: 1 },
    );
  });

  it('gives views, not copies', () => {
    const queue = new Queue({ size: 4, dimension: 2, device });
    queue.enqueue(rows(0, 3, 2));
    const partial = queue.entries();
    queue.enqueue(rows(3, 3, 2));
    const full = queue.entries();
    assert.deepEqual(numbers(partial).slice(0, 4), [8, 9, 10, 11]);
    full.fill_(5);
    assert.deepEqual(numbers(queue.entries()), Array(8).fill(5));
  });

  it('converts keys to its own dtype and drops their gradients', () => {
    const queue = new Queue({ size: 4, dimension: 1, dtype: 'bfloat16', device });
    queue.enqueue(torch.tensor([[1.001], [2]], { device }).requiresGrad_());
    assert.deepEqual(numbers(queue.entries()), [1, 2]);
    assert.equal(queue.entries().dtype, 'bfloat16');
    assert.ok(!queue.entries().requiresGrad);
    assert.equal(queue.to({ dtype: 'float32' }).entries().dtype, 'float32');
  });

  it('refuses a batch larger than itself, naming both numbers, before anything changes', () => {
    const queue = new Queue({ size: 4, dimension: 2, device });
    queue.enqueue(rows(0, 1, 2));
    assert.throws(() => queue.enqueue(rows(0, 5, 2)), {
      constructor: InvalidArgumentError,
      message: /a batch of 5 keys is larger than the queue of 4/,
    });
    assert.deepEqual([queue.filled, queue.pointer, numbers(queue.entries())], [1, 1, [0, 1]]);
  });

  it('refuses shapes and dtypes that do not fit', () => {
    const queue = new Queue({ size: 4, dimension: 2, device });
    assert.throws(
      () => queue.enqueue(torch.zeros([2, 3], { device })),
      /expected keys of shape \[N, 2\], found \[2, 3\]/,
    );
    assert.throws(() => queue.enqueue(torch.zeros([2], { device })), /found \[2\]/);
    assert.throws(
      () => queue.enqueue(torch.zeros([2, 2], { dtype: 'int64', device })),
      /floating-point dtype, found int64/,
    );
    assert.throws(() => queue.enqueue(torch.zeros([2, 2], { device: 'meta' })), /the keys are on meta/);
    assert.throws(() => new Queue({ size: 0, dimension: 2 }), /size must be an integer of at least 1/);
    const dtype = 'int32' as StoredDType;
    assert.throws(() => new Queue({ size: 2, dimension: 2, dtype }), /floating-point dtype, found int32/);
  });

  it('goes on exactly from its state', () => {
    const first = new Queue({ size: 4, dimension: 2, device });
    first.enqueue(rows(0, 3, 2));
    first.enqueue(rows(3, 2, 2));
    const second = new Queue({ size: 4, dimension: 2, device });
    second.loadStateDict(first.stateDict());
    for (const queue of [first, second]) queue.enqueue(rows(5, 2, 2));
    assert.deepEqual(numbers(second.entries()), numbers(first.entries()));
    assert.deepEqual([second.filled, second.pointer], [first.filled, first.pointer]);
    second.clear();
    assert.deepEqual([second.filled, second.pointer, second.entries().shape], [0, 0, [0, 2]]);
  });

  it('refuses a state that does not fit, before anything changes', () => {
    const queue = new Queue({ size: 4, dimension: 2, device });
    queue.enqueue(rows(0, 2, 2));
    const { tensors, values } = queue.stateDict();
    const other = new Queue({ size: 5, dimension: 2, device });
    assert.throws(() => other.loadStateDict(queue.stateDict()), /must hold 'keys' of shape \[5, 2\], found \[4, 2\]/);
    assert.throws(() => queue.loadStateDict({ tensors: new Map(), values }), /found none/);
    const wrong = (change: object) => () =>
      queue.loadStateDict({ tensors, values: { ...(values as object), ...change } });
    assert.throws(wrong({ total: 4 }), /filled 2 and total 4 do not fit a buffer of 4/);
    assert.throws(wrong({ filled: 1 }), /filled 1 and total 2 do not fit/);
    assert.throws(wrong({ filled: 'all' }), /'filled' must be a number, found "all"/);
    assert.deepEqual([queue.filled, queue.pointer], [2, 2]);
  });

  it('counts the keys of all ranks, starts warm and tells ages', () => {
    const twice = (tensors: readonly Tensor[]) => tensors.map((x) => torch.cat([x, x]));
    const queue = new Queue({ size: 4, dimension: 1, device, gather: twice });
    queue.warmStart(rows(0, 6, 1));
    assert.deepEqual(numbers(queue.entries('age')), [2, 3, 4, 5]);
    queue.enqueue(rows(7, 2, 1), { mask: torch.tensor([false, true], { dtype: 'bool', device }) });
    assert.deepEqual(numbers(queue.entries('age')), [4, 5, 8, 8]);
    assert.deepEqual(numbers(queue.ages('enqueues', 'age')), [1, 1, 0, 0]);
    assert.deepEqual(numbers(queue.ages('entries', 'age')), [3, 2, 1, 0]);
    assert.throws(() => queue.enqueue(rows(0, 3, 1)), /a batch of 6 keys is larger than the queue of 4/);
    assert.deepEqual([queue.total, numbers(queue.candidates().embeddings)], [8, numbers(queue.entries())]);
  });

  it('does not leak', () => {
    const queue = new Queue({ size: 4, dimension: 2, device });
    const keys = rows(0, 3, 2);
    const before = memory().liveTensors;
    for (let index = 0; index < 10; index++) queue.enqueue(keys);
    assert.equal(memory().liveTensors, before);
  });
});
