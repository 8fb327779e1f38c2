import assert from 'node:assert/strict';
import { contrast } from '../../../src/contrast';
import { MoCHi } from '../../../src/negatives/mixing';
import { Generator, grad, gradcheck, memory, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { assertRefuses, dot, learning, random, rowsOf, unit } from '../../contrast/objectives/plain';

/** The draws of a MoCHi with this seed, in its order: positions, then shares. */
function draws(seed: number, rows: number, among: number, pairs: number, own: number) {
  const generator = new Generator({ seed });
  const positions = rowsOf(torch.randint(among, [rows, 2 * pairs + own], { dtype: 'int64', generator }));
  const shares = rowsOf(torch.rand([rows, pairs + own], { dtype: 'float32', generator }));
  return { positions, shares };
}

/** The mixes by a loop. */
function mixesByLoop(
  queries: Tensor,
  queue: Tensor,
  hardest: readonly number[][],
  given: ReturnType<typeof draws>,
  pairs: number,
): number[][][] {
  const keys = rowsOf(queue).map(unit);
  return rowsOf(queries).map((row, r) => {
    const q = unit(row);
    const key = (p: number): number[] => keys[hardest[r]![given.positions[r]![p]!]!]!;
    return given.shares[r]!.map((share, k) => {
      const [a, b, w] = k < pairs ? [key(k), key(pairs + k), share] : [q, key(pairs + k), share / 2];
      return unit(a.map((x, d) => w * x + (1 - w) * b[d]!));
    });
  });
}

/** The places of each query's nearest, in the order of the queue. */
function hardestOf(queries: Tensor, queue: Tensor, count: number): number[][] {
  const keys = rowsOf(queue).map(unit);
  return rowsOf(queries).map((row) => {
    const scores = keys.map((key) => dot(unit(row), key));
    const order = keys.map((_, place) => place).sort((a, b) => scores[b]! - scores[a]!);
    return order.slice(0, count).sort((a, b) => a - b);
  });
}

const cases = [
  { rows: 1, keys: 1, hardest: 3, pairs: 2, withQuery: 1 },
  { rows: 2, keys: 7, hardest: 2, pairs: 3, withQuery: 0 },
  { rows: 3, keys: 5, hardest: 4, pairs: 0, withQuery: 2 },
  { rows: 5, keys: 17, hardest: 6, pairs: 7, withQuery: 3 },
];

describe('MoCHi', () => {
  it('mixes the hardest with each other and with the query, as a loop does', () => {
    scope(() => {
      cases.forEach(({ rows, keys, hardest, pairs, withQuery }, seed) => {
        const [q, queue] = [random([rows, 4]), random([keys, 4])];
        const among = Math.min(hardest, keys);
        const expected = mixesByLoop(
          q,
          queue,
          hardestOf(q, queue, among),
          draws(seed, rows, among, pairs, withQuery),
          pairs,
        );
        const found = new MoCHi({ hardest, pairs, withQuery, seed }).negatives(q, queue)!;
        assertClose(found, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 0 });
        assert.equal(found.requiresGrad, false);
      });
    });
  });

  it('has the loss of contrast() with these mixes, and its gradients', () => {
    scope(() => {
      cases.forEach(({ rows, keys, ...options }, seed) => {
        const [q, k, queue] = [learning([rows, 4]), learning([rows, 4]), random([keys, 4])];
        const negatives = new MoCHi({ ...options, seed }).negatives(q, queue)!;
        const expected = contrast({
          anchors: q,
          positives: k,
          candidates: { embeddings: queue },
          negatives,
          temperature: 0.3,
          reduction: 'none',
        });
        const found = new MoCHi({ ...options, seed }).loss(q, k, queue, { temperature: 0.3, reduction: 'none' });
        assertClose(found, expected, { atol: 1e-10, rtol: 0 });
        const weights = random([rows]);
        const slopes = (loss: Tensor): Tensor[] => grad(loss, [q, k], { gradOutputs: [weights] }).map((x) => x!);
        const wanted = slopes(expected);
        slopes(found).forEach((slope, i) => {
          assertClose(slope, wanted[i]!, { atol: 1e-10, rtol: 0 });
        });
      });
    });
  });

  it('filters the queue down to the hardest', () => {
    scope(() => {
      const [q, k, queue] = [learning([4, 3]), learning([4, 3]), random([9, 3])];
      const options = { hardest: 3, pairs: 2, withQuery: 2, seed: 5 };
      const kept = hardestOf(q, queue, 3).map((places) => places.map((place) => rowsOf(queue)[place]!));
      const hard = torch.tensor(kept, { dtype: 'float64' });
      const mixes = new MoCHi(options).negatives(q, queue)!;
      const negatives = torch.cat([hard, mixes], 1);
      const expected = contrast({ anchors: q, positives: k, negatives, temperature: 0.2 });
      const found = new MoCHi(options).loss(q, k, queue, { keep: 'hardest' });
      assertClose(found, expected, { atol: 1e-10, rtol: 0 });
      grad(found, [q, k]).forEach((slope, i) => {
        assertClose(slope!, grad(expected, [q, k], { retainGraph: true })[i]!, { atol: 1e-10, rtol: 0 });
      });
    });
  });

  it('finds the hardest among many, ties included', () => {
    scope(() => {
      for (const [keys, hardest] of [
        [13, 3],
        [100, 7],
        [257, 1],
        [1000, 60],
      ] as const) {
        const queue = torch.cat([random([keys - 4, 3]), torch.ones([4, 3], { dtype: 'float64' })]);
        const [q, k] = [torch.cat([random([3, 3]), torch.ones([1, 3], { dtype: 'float64' })]), random([4, 3])];
        const mochi = new MoCHi({ hardest, warmup: 1 });
        const found = mochi.loss(q, k, queue, { keep: 'hardest', reduction: 'none' });
        const expected = rowsOf(q).map((row, i) => {
          const cosines = rowsOf(queue).map((x) => dot(unit(row), unit(x)));
          const own = dot(unit(row), unit(rowsOf(k)[i]!));
          const kept = cosines.sort((a, b) => b - a).slice(0, hardest);
          return Math.log([own, ...kept].reduce((sum, s) => sum + Math.exp(s / 0.2), 0)) - own / 0.2;
        });
        assertClose(found, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 0 });
      }
    });
  });

  it('takes embeddings as they are on request, of any length', () => {
    scope(() => {
      const [q, k, queue] = [random([3, 3]), random([3, 3]), random([6, 3])];
      const seed = 2;
      const given = draws(seed, 3, 6, 2, 2);
      // All six are the hardest.
      const expected = rowsOf(q).map((row, r) => {
        const key = (p: number): number[] => rowsOf(queue)[given.positions[r]![p]!]!;
        const mixes = given.shares[r]!.map((share, i) => {
          const [a, b, w] = i < 2 ? [key(i), key(2 + i), share] : [row, key(2 + i), share / 2];
          return unit(a.map((x, d) => w * x + (1 - w) * b[d]!));
        });
        const scores = [rowsOf(k)[r]!, ...rowsOf(queue), ...mixes].map((x) => dot(row, x) / 0.5);
        return Math.log(scores.reduce((sum, s) => sum + Math.exp(s), 0)) - scores[0]!;
      });
      const found = new MoCHi({ hardest: 9, pairs: 2, withQuery: 2, seed }).loss(q, k, queue, {
        normalize: false,
        temperature: 0.5,
        reduction: 'none',
      });
      assertClose(found, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 0 });
    });
  });

  it('has gradients that finite differences confirm where no mix has a query in it', () => {
    const queue = random([7, 3]);
    gradcheck(
      (q, k) => new MoCHi({ hardest: 7, pairs: 4, withQuery: 0 }).loss(q!, k!, queue, { normalize: false }),
      [learning([3, 3]), learning([3, 3])],
    );
  });

  it('goes through many mixes in chunks', () => {
    scope(() => {
      const [q, k, queue] = [random([3, 128]), random([3, 128]), random([20, 128])];
      const options = { hardest: 20, pairs: 3000, withQuery: 1, seed: 3 };
      const negatives = new MoCHi(options).negatives(q, queue)!;
      const candidates = { embeddings: queue };
      const expected = contrast({ anchors: q, positives: k, candidates, negatives, temperature: 0.2 });
      assertClose(new MoCHi(options).loss(q, k, queue), expected, { atol: 1e-10, rtol: 0 });
    });
  });

  it('says how near positives, keys and mixes are', () => {
    scope(() => {
      const [q, k, queue] = [random([3, 4]), random([3, 4]), random([8, 4])];
      const options = { hardest: 4, pairs: 3, withQuery: 2, seed: 9 };
      const mixes = new MoCHi(options).negatives(q, queue)!;
      const { positives, nearest, nearestMix } = new MoCHi(options).parts(q.clone().requiresGrad_(), k, queue);
      const cosines = (row: number, others: number[][]): number[] =>
        others.map((x) => dot(unit(rowsOf(q)[row]!), unit(x)));
      [0, 1, 2].forEach((row) => {
        const of = (x: Tensor): number => numbers(x.detach())[row]!;
        assert.ok(Math.abs(of(positives) - cosines(row, [rowsOf(k)[row]!])[0]!) < 1e-12);
        assert.ok(Math.abs(of(nearest) - Math.max(...cosines(row, rowsOf(queue)))) < 1e-12);
        assert.ok(Math.abs(of(nearestMix) - Math.max(...cosines(row, rowsOf(mixes.select(0, row))))) < 1e-12);
      });
      assert.equal(nearest.requiresGrad, false);
    });
  });

  it('mixes nothing during warm-up', () => {
    scope(() => {
      const [q, k, queue] = [random([3, 4]), random([3, 4]), random([8, 4])];
      const mochi = new MoCHi({ hardest: 4, pairs: 3, withQuery: 2, warmup: 2 });
      assert.equal(mochi.negatives(q, queue), undefined);
      const plain = contrast({ anchors: q, positives: k, candidates: { embeddings: queue }, temperature: 0.2 });
      assertClose(mochi.loss(q, k, queue), plain, { atol: 1e-12, rtol: 0 });
      assert.equal(mochi.calls, 2);
      assert.deepEqual(mochi.negatives(q, queue)!.shape, [3, 5, 4]);
      const unmixed = new MoCHi({ hardest: 4, pairs: 3, withQuery: 2, warmup: 1 }).parts(q, k, queue);
      assert.deepEqual(numbers(unmixed.nearestMix), [-Infinity, -Infinity, -Infinity]);
    });
  });

  it('goes on exactly from its state', () => {
    scope(() => {
      const [q, queue] = [random([3, 4]), random([8, 4])];
      const options = { hardest: 4, pairs: 3, withQuery: 2, warmup: 2 };
      const first = new MoCHi({ ...options, seed: 1 });
      for (let call = 0; call < 3; call++) first.negatives(q, queue);
      const second = new MoCHi({ ...options, seed: 2 });
      second.loadStateDict(first.stateDict());
      for (let call = 0; call < 2; call++) {
        assert.deepEqual(numbers(second.negatives(q, queue)!), numbers(first.negatives(q, queue)!));
      }
      assert.equal(second.calls, 5);
      const { tensors } = first.stateDict();
      assertRefuses(() => second.loadStateDict({ tensors: new Map(), values: { calls: 1 } }), /lacks 'generator'/);
      assertRefuses(() => second.loadStateDict({ tensors, values: { calls: -1 } }), /calls must be an integer/);
      const bad = new Map([['generator', torch.zeros([3], { dtype: 'uint8' })]]);
      assertRefuses(() => second.loadStateDict({ tensors: bad, values: { calls: 1 } }), /is no state of a generator/);
      assert.equal(second.calls, 5);
    });
  });

  it('goes through many rows in chunks, in every dtype, without leaking', () => {
    const queue = random([200_000, 2], 'float32');
    const mochi = new MoCHi({ hardest: 3, pairs: 2, withQuery: 1, seed: 4 });
    const [q, k] = [random([30, 2], 'float32'), random([30, 2], 'float32')];
    const before = memory().liveTensors;
    scope(() => {
      const [leaf, positive] = [q.clone().requiresGrad_(), k.clone().requiresGrad_()];
      const loss = mochi.loss(leaf, positive, queue);
      assert.equal(loss.dtype, 'float32');
      grad(loss, [leaf, positive]).forEach((slope) => assert.equal(slope!.isfinite().all().itemSync(), 1));
      const wide = [q, k, queue].map((x) => x.to('float64')) as [Tensor, Tensor, Tensor];
      const again = (): MoCHi => new MoCHi({ hardest: 3, pairs: 2, withQuery: 1, seed: 4 });
      const negatives = again().negatives(wide[0], wide[2])!;
      const expected = contrast({
        anchors: wide[0],
        positives: wide[1],
        candidates: { embeddings: wide[2] },
        negatives,
        temperature: 0.2,
        reduction: 'none',
      });
      assertClose(again().loss(...wide, { reduction: 'none' }), expected, { atol: 1e-10, rtol: 0 });
      assert.ok(Math.abs(Number(loss.itemSync()) - Number(expected.mean().itemSync())) < 1e-4);
      const short = mochi.loss(q.to('bfloat16'), k.to('bfloat16'), queue.to('bfloat16'), { temperature: 0.005 });
      assert.equal(short.dtype, 'float32');
      assert.ok(Number.isFinite(short.itemSync()));
    });
    assert.equal(memory().liveTensors, before);
  });

  it('refuses what does not fit, before anything changes', () => {
    const [q, k, queue] = [random([3, 4]), random([3, 4]), random([8, 4])];
    const mochi = new MoCHi({ hardest: 2, pairs: 1, withQuery: 1 });
    assertRefuses(() => mochi.negatives(q, random([8, 3])), /queue: expected shape \[N, 4\]/);
    assertRefuses(() => mochi.loss(q, random([2, 4]), queue), /positives: expected shape \[3, 4\]/);
    assertRefuses(() => mochi.loss(q, k, queue, { temperature: 0 }), /temperature must be a number above 0/);
    assert.equal(mochi.calls, 0);
    assertRefuses(() => new MoCHi({ hardest: 0 }), /hardest must be an integer of at least 1/);
    assertRefuses(() => new MoCHi({ pairs: 0, withQuery: 0 }), /nothing is mixed/);
    scope(() => {
      const leaf = learning([3, 4]);
      assert.throws(() => grad(mochi.loss(leaf, k, queue), leaf, { createGraph: true }), /differentiable once/);
    });
  });
});
