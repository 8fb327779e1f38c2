import assert from 'node:assert/strict';
import { contrast } from '../../src/contrast';
import { ClassPrototypes, type ClassPrototypesOptions } from '../../src/memory';
import { memory, scope, torch } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { assertNear, assertRefuses, bools, copied, dot, everything, ints, random, rowsOf, unit } from './plain';

type Options = Omit<ClassPrototypesOptions, 'classes' | 'shape'>;
const make = (options: Options = {}) =>
  new ClassPrototypes({ classes: 4, shape: 3, dtype: 'float64', device, ...options });

/** Sample by sample, or mean by mean, as the formula has it. */
class Model {
  readonly rows: number[][] = Array.from({ length: 4 }, () => [0, 0, 0]);
  readonly counts = [0, 0, 0, 0];

  constructor(readonly options: Options) {}

  update(batch: number[][], labels: number[]): void {
    const { momentum = 0.9, step = 'sample', start = 'first', normalize = false } = this.options;
    for (const c of new Set(labels)) {
      const own = batch.filter((_, i) => labels[i] === c);
      const means = own.reduce((sum, row) => sum.map((x, d) => x + row[d]! / own.length), [0, 0, 0]);
      for (const x of step === 'mean' ? [means] : own) {
        const first = this.counts[c] === 0 && start === 'first';
        this.rows[c] = first ? [...x] : this.rows[c]!.map((y, d) => momentum * y + (1 - momentum) * x[d]!);
        this.counts[c]!++;
      }
      this.counts[c]! += own.length - (step === 'mean' ? 1 : own.length);
      if (normalize) this.rows[c] = unit(this.rows[c]!);
    }
  }
}

describe('ClassPrototypes', () => {
  it('equals a loop over samples and over means', () => {
    for (const step of ['sample', 'mean'] as const) {
      for (const start of ['first', 'zero'] as const) {
        for (const normalize of [false, true]) {
          for (const momentum of [0, 0.6, 1]) {
            // A sum of zeros has no direction.
            if (normalize && start === 'zero' && momentum === 1) continue;
            const options = { step, start, normalize, momentum };
            const [prototypes, model] = [make(options), new Model(options)];
            for (const labels of [[2], [0, 2], [2, 2, 2], [1, 0, 1, 0, 2, 1, 0]]) {
              const x = random([labels.length, 3]);
              prototypes.update(x, ints(labels));
              model.update(rowsOf(x), labels);
              assertNear(numbers(prototypes.entries()), model.rows.flat());
              assert.deepEqual(numbers(prototypes.counts()), model.counts);
            }
          }
        }
      }
    }
  });

  it('leaves out what a mask leaves out, and classes that do not occur bit for bit', () => {
    const [masked, plain] = [make({ normalize: true }), make({ normalize: true })];
    const x = random([5, 3]);
    const labels = [0, 3, 3, 1, 0];
    const mask = [true, true, false, false, true];
    masked.update(x, ints(labels), { mask: bools(mask) });
    const chosen = ints([0, 1, 4]);
    plain.update(x.indexSelect(0, chosen), ints([0, 3, 0]));
    assert.deepEqual(everything(masked.stateDict()), everything(plain.stateDict()));
    const before = numbers(masked.of(ints([0])));
    masked.update(x, ints([1, 1, 2, 2, 3]));
    assert.deepEqual(numbers(masked.of(ints([0]))), before);
  });

  it('holds any shape, and what all ranks have', () => {
    const wide = new ClassPrototypes({ classes: 2, shape: [2, 2], step: 'mean', dtype: 'float64', device });
    const x = random([3, 2, 2]);
    wide.update(x, ints([1, 1, 1]));
    assertClose(wide.of(ints([1])).squeeze(0), x.mean([0]), { atol: 1e-12 });
    const [gathered, alone] = [make({ gather: (own) => own.map((y) => torch.cat([y, y])) }), make()];
    const y = random([2, 3]);
    gathered.update(y, ints([1, 3]));
    alone.update(torch.cat([y, y]), ints([1, 3, 1, 3]));
    assert.deepEqual(everything(gathered.stateDict()), everything(alone.stateDict()));
  });

  it('finds the most alike class among those allowed', () => {
    const prototypes = make();
    prototypes.update(random([4, 3]), ints([0, 1, 2, 3]));
    const x = random([6, 3]);
    const allowed = Array.from({ length: 6 }, (_, i) => [0, 1, 2, 3].map((c) => (i + c) % 3 !== 0));
    const found = prototypes.nearest(x, { allowed: torch.tensor(allowed, { dtype: 'bool', device }) });
    rowsOf(x).forEach((row, i) => {
      const scores = rowsOf(prototypes.entries()).map((p, c) => (allowed[i]![c]! ? dot(row, p) : -Infinity));
      const best = Math.max(...scores);
      assert.equal(numbers(found.labels)[i], scores.indexOf(best));
      assertNear([numbers(found.similarities)[i]!], [best]);
    });
  });

  it('gives the classes that have occurred as candidates, without gradients', () => {
    scope(() => {
      const prototypes = make();
      prototypes.update(random([2, 3]).requiresGrad_(), ints([3, 1]));
      const { embeddings, labels } = prototypes.candidates();
      assert.deepEqual(numbers(labels!), [1, 3]);
      assert.ok(!embeddings.requiresGrad);
      const loss = contrast({ anchors: random([2, 3]), labels: ints([1, 3]), candidates: { embeddings, labels } });
      assert.equal(loss.isfinite().itemSync(), 1);
    });
  });

  it('goes on exactly from its state, and does not leak', () => {
    const [first, second] = [make(), make()];
    first.update(random([3, 3]), ints([0, 0, 2]));
    second.loadStateDict(copied(first.stateDict()));
    const [x, labels] = [random([3, 3]), ints([2, 1, 2])];
    const before = memory().liveTensors;
    for (const prototypes of [first, second]) prototypes.update(x, labels);
    assert.equal(memory().liveTensors, before);
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
    const other = new ClassPrototypes({ classes: 5, shape: 3, dtype: 'float64', device });
    assertRefuses(() => first.loadStateDict(other.stateDict()), /'prototypes' of shape \[4, 3\], found \[5, 3\]/);
  });

  it('refuses what does not fit, before anything changes', () => {
    const prototypes = make();
    const x = random([2, 3]);
    assertRefuses(() => prototypes.update(x, ints([0, 4])), /labels must be from 0 to 3, found 4/);
    assertRefuses(() => prototypes.update(random([2, 4]), ints([0, 1])), /values of shape \[N, 3\], found \[2, 4\]/);
    assertRefuses(() => prototypes.update(x, ints([0])), /labels of shape \[2\], found \[1\]/);
    assertRefuses(() => prototypes.update(x, ints([0, 1]), { mask: ints([0, 1]) }), /mask must be bool/);
    assertRefuses(() => prototypes.nearest(random([2, 2])), /expected embeddings of shape \[N, D\]/);
    assertRefuses(() => make({ momentum: 1.5 }), /momentum must be a number from 0 to 1/);
    assert.deepEqual(numbers(prototypes.counts()), [0, 0, 0, 0]);
  });
});
