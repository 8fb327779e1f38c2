import assert from 'node:assert/strict';
import { NbpoSampler, nbpoLoss, trueNegativeProbability } from '../../../src/negatives/sampling/nbpo';
import { Generator, gradcheck, scope, torch } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import { device } from '../../support/device';
import { givesTheSameOnEveryRank, keepsTheContract, upTo } from './contract';

const random = (shape: number[], seed: number) =>
  torch.randn(shape, { generator: new Generator({ seed }), dtype: 'float64' }).to({ device });
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const vector = (values: number[]) => torch.tensor(values, { dtype: 'float64', device });

describe('nbpoLoss', () => {
  it('equals a loop, with the gradients of the authors', () => {
    scope(() => {
      const [r, f] = [random([9], 1).requiresGrad_(), random([9], 2).requiresGrad_()];
      const votes = upTo(9).map((i) => i % 2 === 0);
      const voted = torch.tensor(votes, { device });
      const [rs, fs] = [numbers(r), numbers(f)];
      const expected = votes.map((vote, i) => {
        const [like, flip] = [sigmoid(rs[i]!), sigmoid(fs[i]!)];
        return -Math.log(vote ? (1 - flip) * like : 1 - like + flip * like);
      });
      const loss = nbpoLoss(r, f, voted);
      assertClose(loss, vector(expected), { atol: 1e-12 });
      loss.neg().sum().backward();
      const byR = votes.map((vote, i) => {
        const [like, flip] = [sigmoid(rs[i]!), sigmoid(fs[i]!)];
        return vote ? 1 - like : ((flip - 1) * like * (1 - like)) / (1 - like + flip * like);
      });
      const byF = votes.map((vote, i) => {
        const [like, flip] = [sigmoid(rs[i]!), sigmoid(fs[i]!)];
        return vote ? -flip : (flip * (1 - flip) * like) / (1 - like + flip * like);
      });
      assertClose(r.grad!, vector(byR), { atol: 1e-12 });
      assertClose(f.grad!, vector(byF), { atol: 1e-12 });
      gradcheck((x, y) => nbpoLoss(x, y, voted), [r.detach().requiresGrad_(), f.detach().requiresGrad_()]);
    });
  });

  it('is finite for extreme logits, and cross-entropy without flips', () => {
    scope(() => {
      const extreme = vector([-800, 800, -800, 800]);
      const flips = vector([-800, -800, 800, 800]);
      for (const vote of [true, false]) {
        const loss = numbers(nbpoLoss(extreme, flips, torch.full([4], vote, { dtype: 'bool', device })));
        assert.ok(loss.every(Number.isFinite), String(loss));
      }
      const r = random([5], 3);
      const voted = torch.tensor([true, false, true, false, true], { device });
      const plain = torch.where(voted, r, r.neg()).logSigmoid().neg();
      assertClose(nbpoLoss(r, torch.full([5], -60, { dtype: 'float64', device }), voted), plain, { atol: 1e-12 });
    });
  });

  it('knows by Bayes how likely an item without vote is disliked', () => {
    scope(() => {
      const [r, f] = [random([6], 4), random([6], 5)];
      const expected = numbers(r).map((x, i) => {
        const [like, flip] = [sigmoid(x), sigmoid(numbers(f)[i]!)];
        return (1 - like) / (1 - like + flip * like);
      });
      assertClose(trueNegativeProbability(r, f), vector(expected), { atol: 1e-12 });
      assert.throws(
        () => trueNegativeProbability(r, f.narrow(0, 0, 2)),
        /one shape and device, found .*\[6\] and .*\[2\]/,
      );
      assert.throws(() => nbpoLoss(r, f, r), /voted must be bool \[6\], found float64 \[6\]/);
    });
  });
});

describe('NbpoSampler', () => {
  // Users 0-4 with votes for items by a rule; user 9 with nearly all.
  const votes = [...upTo(40).map((i) => [i % 5, (i * 7) % 23] as const), ...upTo(19).map((item) => [9, item] as const)];
  const users = votes.map(([user]) => user);
  const items = votes.map(([, item]) => item);
  const options = { users, items, itemCount: 23, batchSize: 8 };
  keepsTheContract((shared) => new NbpoSampler({ ...options, ...shared }));

  it('gives each vote once, with different items that the user has not voted for, each as likely', () => {
    const counts = new Map<number, number>();
    const sampler = new NbpoSampler({ ...options, negatives: 2, candidates: 3 });
    for (const epoch of upTo(60)) {
      const seen: number[] = [];
      for (const batch of sampler.batches(epoch)) {
        seen.push(...batch.indices);
        batch.indices.forEach((vote, row) => {
          assert.deepEqual([batch.users[row], batch.items[row]], [users[vote], items[vote]]);
          const candidates = batch.candidates.subarray(row * 3, row * 3 + 3);
          assert.equal(new Set(candidates).size, 3);
          for (const item of candidates) {
            assert.ok(item >= 0 && item < 23);
            assert.ok(!votes.some(([user, other]) => user === users[vote] && other === item));
            if (users[vote] === 9) counts.set(item, (counts.get(item) ?? 0) + 1);
          }
        });
      }
      assert.equal(new Set(seen).size, votes.length);
    }
    // User 9 has 19 votes and 4 items left: each comes 3 times in 4.
    for (const item of [19, 20, 21, 22]) assert.ok(Math.abs(counts.get(item)! / (60 * 19) - 0.75) < 0.05);
  });

  it('draws the same candidates on any number of processes', () => {
    givesTheSameOnEveryRank(
      (shared) => new NbpoSampler({ ...options, ...shared }),
      (sampler) => {
        const { candidates, indices } = sampler.next();
        return Array.from(indices, (_, row) => candidates.slice(row * 4, row * 4 + 4).join());
      },
    );
  });

  it('chooses true negatives among the candidates', () => {
    scope(() => {
      const sampler = new NbpoSampler({ ...options, negatives: 1, candidates: 3 });
      const [like, flip] = [vector([2, 0, -1]), vector([1, 0.5, 0])];
      const weights = numbers(trueNegativeProbability(like, flip));
      const total = weights.reduce((a, b) => a + b);
      const counts = [0, 0, 0];
      let draws = 0;
      for (const epoch of upTo(60)) {
        for (const batch of sampler.batches(epoch)) {
          const rows = batch.indices.length;
          const chosen = sampler.select(batch, like.expand([rows, 3]), flip.expand([rows, 3]));
          assert.deepEqual(chosen.shape, [rows, 1]);
          for (const place of numbers(chosen)) counts[place]!++;
          draws += rows;
        }
      }
      weights.forEach((weight, place) =>
        assert.ok(Math.abs(counts[place]! / draws - weight / total) < 0.03, String(counts)),
      );
      const batch = sampler.next();
      const logits = random([batch.indices.length, 3], 1);
      assert.deepEqual(numbers(sampler.select(batch, logits, logits)), numbers(sampler.select(batch, logits, logits)));
      assert.throws(() => sampler.select(batch, like, flip), /preferences must be \[8, 3\], found \[3\]/);
    });
  });

  it('refuses what does not fit', () => {
    const make = (change: object) => () => new NbpoSampler({ ...options, ...change });
    assert.throws(make({ negatives: 5 }), /user 9 has 4 items without vote, fewer than 5 candidates/);
    assert.throws(make({ candidates: 3 }), /at least the 4 negatives, found 3/);
    assert.throws(make({ itemCount: 22 }), /items must be from 0 to less than 22, found 22/);
    assert.throws(make({ users: users.map((user) => user - 1) }), /users must be from 0/);
    assert.throws(make({ items: [1] }), /59 integers, found 1/);
  });
});
