import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { ApproximateIndex, ExactIndex, type ApproximateIndexOptions } from '../../../src/negatives/mining';
import { optionalPackage } from '../../../src/negatives/mining/optional-package';
import { Generator, InvalidArgumentError, KontrastError, scope, torch, type Tensor } from '../../../src/torch';
import { numbers } from '../../support/close';
import { device } from '../../support/device';
import { scratch } from '../../support/scratch';
import { assertRefuses, cosine, dot, rowsOf, squared } from '../../contrast/objectives/plain';
import { integersOf, labelsOf } from './plain';

const generator = new Generator({ seed: 12 });
const random = (rows: number, columns = 8): Tensor => torch.randn([rows, columns], { generator }).to({ device });
const isInstalled = (() => {
  try {
    return optionalPackage('usearch', '2', 'the test') !== undefined;
  } catch {
    return false;
  }
})();

describe('an optional package', () => {
  it('that is missing is asked for by the command that installs it', () => {
    assert.throws(
      () => optionalPackage('kontrast-no-such-package', '^3', 'ApproximateIndex'),
      (error: unknown) =>
        error instanceof KontrastError &&
        error.code === 'MISSING_PACKAGE' &&
        /ApproximateIndex needs .* npm install kontrast-no-such-package@\^3$/.test(error.message),
    );
  });
});

describe('ApproximateIndex', function () {
  before(function () {
    if (!isInstalled) this.skip();
  });
  const file = scratch();
  const built = (embeddings: Tensor, options: Partial<ApproximateIndexOptions> = {}, ids?: Tensor) => {
    const index = new ApproximateIndex({ dimension: embeddings.sizeOf(1), ...options });
    index.build(embeddings, ids && { ids });
    return index;
  };
  const found = (index: ApproximateIndex, queries: Tensor, count = 5) =>
    scope(() => {
      const { ids, scores } = index.search(queries, count);
      return [integersOf(ids), numbers(scores)] as const;
    });

  it('finds what an exact search finds, with the scores of the engine', () => {
    scope(() => {
      const measures = { cosine, dot, euclidean: (a: number[], b: number[]) => -squared(a, b) };
      const [documents, queries] = [random(60), random(7)];
      for (const [similarity, measure] of Object.entries(measures)) {
        const options = { similarity: similarity as keyof typeof measures };
        const ids = torch.arange(1000, 1060, { dtype: 'int64', device });
        const exact = new ExactIndex(options);
        exact.build(documents, { ids });
        const expected = exact.search(queries, 4);
        const { scores, ids: rows } = built(documents, { ...options, searchEffort: 100 }, ids).search(queries, 4);
        assert.deepEqual(integersOf(rows), integersOf(expected.ids));
        assert.equal(rows.dtype, 'int64');
        assert.equal(rows.device, queries.device);
        const [q, d] = [rowsOf(queries), rowsOf(documents)];
        rowsOf(scores).forEach((row, i) => {
          row.forEach((score, j) => {
            const wanted = measure(q[i]!, d[rowsOf(rows)[i]![j]! - 1000]!);
            assert.ok(Math.abs(score - wanted) < 1e-4, `${similarity}: ${score}, not ${wanted}`);
          });
        });
      }
    });
  });

  it('finds nearly all of many', () => {
    scope(() => {
      const [documents, queries] = [random(3000, 16), random(50, 16)];
      const exact = new ExactIndex();
      exact.build(documents);
      const right = rowsOf(exact.search(queries, 10).ids);
      for (const dtype of ['float32', 'bfloat16'] as const) {
        const rows = rowsOf(built(documents, { dtype }).search(queries, 10).ids);
        const hits = rows.flatMap((row, q) => row.filter((id) => right[q]!.includes(id))).length;
        assert.ok(hits >= 475, `${hits} of 500 in ${dtype}`);
      }
    });
  });

  it('marks what is missing, for one query as for several', () => {
    scope(() => {
      const documents = random(2);
      const index = built(documents, {}, labelsOf([7, 9]));
      const [ids, scores] = found(index, documents, 3);
      assert.deepEqual([ids[0], ids[2], ids[3], ids[5]], [7, -1, 9, -1]);
      assert.equal(scores[2], -Infinity);
      assert.deepEqual(found(index, documents.narrow(0, 0, 1), 3), [ids.slice(0, 3), scores.slice(0, 3)]);
      const empty = new ApproximateIndex({ dimension: 8 });
      assert.deepEqual(found(empty, documents, 2), [[-1, -1, -1, -1], Array(4).fill(-Infinity)]);
      index.loadStateDict(empty.stateDict());
      assert.equal(index.size, 0);
      assert.deepEqual(found(index, documents, 2)[0], [-1, -1, -1, -1]);
      index.add(documents, {});
      assert.deepEqual(found(index, documents, 1)[0], [0, 1]);
    });
  });

  it('adds, removes, and holds ids beyond 32 bits', () => {
    scope(() => {
      const [documents, more] = [random(5), random(2)];
      const index = built(documents);
      const large = 2 ** 50;
      index.add(more, { ids: labelsOf([large, large + 1]) });
      assert.equal(index.size, 7);
      assert.deepEqual(found(index, more, 1)[0], [large, large + 1]);
      assert.equal(index.remove(labelsOf([large, 2, 99])), 2);
      assert.equal(index.size, 5);
      assert.notEqual(found(index, more.narrow(0, 0, 1), 1)[0][0], large);
      assertRefuses(() => {
        index.add(more, { ids: labelsOf([50, 3]) });
      }, /document 3 is there already/);
      assert.equal(index.size, 5);
    });
  });

  for (const background of ['worker', 'slices'] as const) {
    it(`is searched while a new one is filled (${background}), and is it once that is whole`, async () => {
      const [old, next] = [random(40), random(500)];
      const index = built(old);
      const before = found(index, old);
      const whole = index.refresh(next, { background });
      assert.ok(index.isPreparing);
      assert.deepEqual(found(index, old), before);
      assert.equal(index.size, 40);
      await whole;
      assert.ok(!index.isPreparing);
      assert.equal(index.size, 500);
      assert.deepEqual(found(index, next, 1)[0], [...Array(500).keys()]);
    });

    it(`goes on from a state in which a new one was under way (${background}), with the same graph`, async () => {
      const [old, next, queries] = [random(50), random(300), random(9)];
      const [first, second] = [built(old), new ApproximateIndex({ dimension: 8 })];
      first.prepare(next, { background, ids: torch.arange(300, 600, { dtype: 'int64' }) });
      second.loadStateDict(first.stateDict());
      assert.deepEqual(found(second, queries), found(first, queries));
      assert.ok(second.isPreparing);
      await Promise.all([first.swap(), second.swap()]);
      assert.deepEqual(found(second, queries, 40), found(first, queries, 40));
      assert.ok(found(second, queries)[0].every((id) => id >= 300));
      const [a, b] = [first, second].map((index) => index.stateDict());
      assert.deepEqual(a!.values, b!.values);
    });
  }

  it('takes the last of several that were started, and none that was cancelled', async () => {
    const [old, next] = [random(5), random(20)];
    const index = built(old);
    index.prepare(random(2000), { background: 'slices' });
    const first = index.swap();
    index.prepare(random(2000));
    const second = index.swap();
    index.prepare(next);
    await Promise.all([first, second, index.swap()]);
    assert.equal(index.size, 20);
    index.prepare(old);
    index.cancel();
    await index.swap();
    assert.equal(index.size, 20);
  });

  it('saves and loads, and refuses files that are damaged or of other settings', () => {
    scope(() => {
      const [documents, queries] = [random(100), random(6)];
      const index = built(documents);
      index.save(file('index'));
      const again = new ApproximateIndex({ dimension: 8 });
      again.load(file('index'));
      assert.deepEqual(found(again, queries), found(index, queries));
      const bytes = readFileSync(file('index'));
      const refuses = (content: Uint8Array, message: RegExp) => {
        writeFileSync(file('bad'), content);
        assert.throws(() => {
          again.load(file('bad'));
        }, message);
      };
      refuses(bytes.subarray(0, bytes.length / 2), /is no index, or is cut off/);
      refuses(new Uint8Array(), /is no index, or is cut off/);
      const changed = Buffer.from(bytes);
      changed[200]! ^= 1;
      refuses(changed, /is damaged/);
      refuses(bytes.subarray(10), /is damaged/);
      assert.throws(
        () => {
          again.load(file('none'));
        },
        (error: unknown) => error instanceof KontrastError && error.code === 'FILE_READ',
      );
      assert.throws(() => {
        new ApproximateIndex({ dimension: 8, similarity: 'dot' }).load(file('index'));
      }, /has similarity "cosine", this index "dot"/);
      assert.deepEqual(found(again, queries), found(index, queries));
    });
  });

  it('refuses states that do not fit, before anything changes', () => {
    scope(() => {
      const index = built(random(10));
      const state = index.stateDict();
      const refuses = (more: Partial<typeof state>, message: RegExp) => {
        assertRefuses(() => {
          index.loadStateDict({ ...state, ...more });
        }, message);
        assert.equal(index.size, 10);
      };
      refuses({ tensors: new Map() }, /must hold 'index'/);
      const damaged = state.tensors.get('index')!.clone();
      damaged.select(0, 100).fill_(damaged.select(0, 100).bitwiseXor(1));
      refuses({ tensors: new Map([['index', damaged]]) }, /does not have the checksum/);
      refuses({ values: { ...(state.values as object), dimension: 9 } }, /has dimension 9, this index 8/);
      refuses({ tensors: new Map([...state.tensors, ['prepared.ids', labelsOf([1])]]) }, /both or none/);
    });
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const index = built(random(3));
      const documents = random(2);
      assertRefuses(() => new ApproximateIndex({ dimension: 0 }), /dimension/);
      assertRefuses(() => new ApproximateIndex({ dimension: 2, similarity: 'l1' as 'dot' }), /similarity/);
      assertRefuses(() => new ApproximateIndex({ dimension: 2, dtype: 'int8' as 'float32' }), /dtype/);
      assertRefuses(() => index.search(random(2, 7), 1), /queries must have 8 columns, found 7/);
      assertRefuses(() => index.search(documents, 0), /count/);
      const refuses = (embeddings: Tensor, options: object, message: RegExp) => {
        for (const name of ['build', 'add', 'prepare'] as const) {
          assertRefuses(() => {
            index[name](embeddings, options);
          }, message);
        }
        assert.equal(index.size, 3);
      };
      refuses(random(2, 7), {}, /embeddings must have 8 columns, found 7/);
      refuses(documents.mul(NaN), {}, /embeddings must be finite/);
      refuses(documents, { ids: labelsOf([1]) }, /ids must be int64 \[2\]/);
      refuses(documents, { ids: labelsOf([4, 4]) }, /ids must be distinct/);
      refuses(documents, { ids: labelsOf([-1, 4]) }, /ids must be at least 0/);
      assert.throws(() => {
        index.prepare(documents, { background: 'x' as 'worker' });
      }, InvalidArgumentError);
    });
  });
});
