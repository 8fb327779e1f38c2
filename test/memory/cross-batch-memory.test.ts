import assert from 'node:assert/strict';
import { contrast } from '../../src/contrast';
import { CrossBatchMemory } from '../../src/memory';
import { grad, torch, type Tensor } from '../../src/torch';
import { numbers } from '../support/close';
import { device } from '../support/device';
import {
  assertNear,
  assertRefuses,
  bools,
  copied,
  cosine,
  everything,
  ints,
  mean,
  random,
  rowsOf,
  value,
} from './plain';

interface Entry {
  row: number[];
  label: number;
  id: number;
}

/** The softmax over positives of each anchor with all entries but those of its id. */
function byLoop(anchors: readonly Entry[], entries: readonly Entry[], t: number): number {
  const losses: number[] = [];
  for (const anchor of anchors) {
    const others = entries.filter(({ id }) => id !== anchor.id);
    const logits = others.map(({ row }) => cosine(anchor.row, row) / t);
    const positives = logits.filter((_, j) => others[j]!.label === anchor.label);
    if (positives.length === 0) continue;
    const whole = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
    losses.push(whole - mean(positives));
  }
  return losses.length === 0 ? 0 : mean(losses);
}

describe('CrossBatchMemory', () => {
  it('leaves out just the own copies of the batch, whatever the batch and the wrap-around', () => {
    for (const count of [1, 2, 3, 5]) {
      const memory = new CrossBatchMemory({ size: 7, dimension: 3, dtype: 'float64', device });
      let entries: Entry[] = [];
      for (let step = 0; step < 5; step++) {
        const embeddings = random([count, 3]).requiresGrad_();
        const labels = Array.from({ length: count }, (_, i) => (i + step) % 2);
        const ids = memory.enqueue(embeddings, ints(labels));
        const anchors = rowsOf(embeddings).map((row, i) => ({ row, label: labels[i]!, id: numbers(ids)[i]! }));
        assert.deepEqual(
          numbers(ids),
          labels.map((_, i) => step * count + i),
        );
        entries = [...entries, ...anchors].slice(-7);
        if (step === 0) continue;
        const candidates = memory.candidates();
        const loss = contrast({ anchors: embeddings, labels: ints(labels), ids, candidates, temperature: 0.3 });
        assertNear([value(loss)], [byLoop(anchors, entries, 0.3)]);
        assert.ok(!candidates.embeddings.requiresGrad);
        assert.equal(grad(loss, [embeddings])[0]!.isfinite().all().itemSync(), 1);
      }
    }
  });

  it('takes given ids, masks and columns, and leaves the last of a batch that is too large', () => {
    const memory = new CrossBatchMemory({
      size: 3,
      dimension: 1,
      ids: 'given',
      device,
      columns: { domain: { dtype: 'int64' } },
    });
    const ids = ints([10, 11, 12, 13, 14]);
    const rows = torch.arange(5, { dtype: 'float32', device }).view([5, 1]);
    const kept = memory.enqueue(rows, ids, {
      ids,
      columns: { domain: ids },
      mask: bools([true, true, true, true, false]),
    });
    assert.deepEqual(numbers(kept), [10, 11, 12, 13, 14]);
    assert.deepEqual(numbers(memory.buffer.entries('age')), [1, 2, 3]);
    assert.deepEqual(numbers(memory.buffer.column('domain', 'age')), [11, 12, 13]);
    assert.equal(memory.filled, 3);
    memory.clear();
    assert.equal(memory.filled, 0);
  });

  it('goes on exactly from its state, counted ids included', () => {
    const made = () => new CrossBatchMemory({ size: 4, dimension: 2, device });
    const [first, second] = [made(), made()];
    const batches = [random([3, 2]), random([2, 2]), random([3, 2])];
    const add = (memory: CrossBatchMemory, batch: Tensor) =>
      memory.enqueue(batch, torch.zeros([batch.sizeOf(0)], { dtype: 'int64', device }));
    add(first, batches[0]!);
    add(first, batches[1]!);
    second.loadStateDict(copied(first.stateDict()));
    assert.deepEqual(numbers(add(first, batches[2]!)), [5, 6, 7]);
    assert.deepEqual(numbers(add(second, batches[2]!)), [5, 6, 7]);
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
    const given = new CrossBatchMemory({ size: 4, dimension: 2, ids: 'given', device });
    assertRefuses(() => given.loadStateDict(first.stateDict()), /'ids' is "counted", this one has "given"/);
  });

  it('refuses what does not fit', () => {
    const memory = new CrossBatchMemory({ size: 4, dimension: 2, device });
    const [rows, labels] = [random([2, 2]), ints([0, 1])];
    assertRefuses(() => memory.enqueue(rows, labels, { ids: labels }), /counts ids itself/);
    assertRefuses(() => memory.enqueue(rows, ints([0])), /labels of shape \[2\], found \[1\]/);
    assertRefuses(() => memory.enqueue(random([2]), labels), /embeddings of shape \[N, 2\]/);
    assert.deepEqual(numbers(memory.enqueue(rows, labels)), [0, 1]);
    const given = new CrossBatchMemory({ size: 4, dimension: 2, ids: 'given', device });
    assertRefuses(() => given.enqueue(rows, labels), /every embedding needs an id/);
    assertRefuses(() => new CrossBatchMemory({ size: 4, dimension: 2, gather: (x) => x }), /ids: 'given'/);
  });
});
