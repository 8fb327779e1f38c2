import assert from 'node:assert/strict';
import fc from 'fast-check';
import { deriveSeed } from '../../../src/data/seed';
import { Deck, RandomSource } from '../../../src/negatives/sampling/random-source';
import { ascending, upTo } from './contract';

describe('RandomSource', () => {
  it('is xoshiro128** from derived seeds', () => {
    // The reference, in exact integers.
    const m = 0xffffffffn;
    const rotl = (x: bigint, k: bigint) => ((x << k) | (x >> (32n - k))) & m;
    const s = [0, 1].flatMap((half) => {
      const word = deriveSeed(7, 5, half);
      return [word & m, word >> 32n];
    });
    const random = new RandomSource(7, 5);
    for (let draw = 0; draw < 200; draw++) {
      const expected = (rotl((s[1]! * 5n) & m, 7n) * 9n) & m;
      const t = (s[1]! << 9n) & m;
      s[2]! ^= s[0]!;
      s[3]! ^= s[1]!;
      s[1]! ^= s[2]!;
      s[0]! ^= s[3]!;
      s[2]! ^= t;
      s[3] = rotl(s[3]!, 11n);
      assert.equal(random.bits(), Number(expected));
    }
  });

  it('draws each number equally often', () => {
    const random = new RandomSource(1);
    const counts = [0, 0, 0];
    for (let draw = 0; draw < 30_000; draw++) counts[random.integer(3)]!++;
    for (const count of counts) assert.ok(Math.abs(count - 10_000) < 300, String(counts));
    let sum = 0;
    for (let draw = 0; draw < 10_000; draw++) {
      const value = random.uniform();
      assert.ok(value >= 0 && value < 1);
      sum += value;
    }
    assert.ok(Math.abs(sum / 10_000 - 0.5) < 0.01);
  });

  it('draws by weight, never what has none', () => {
    const random = new RandomSource(2);
    const counts = [0, 0, 0, 0];
    for (let draw = 0; draw < 20_000; draw++) counts[random.weighted([0, 1, 3, 0], 4)]!++;
    assert.deepEqual([counts[0], counts[3]], [0, 0]);
    assert.ok(Math.abs(counts[1]! - 5000) < 200);
  });

  it('chooses without repetition, and repeats only what is too few', () => {
    const random = new RandomSource(3);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 0, max: 20 }), (size, count) => {
        const items = upTo(size).map((item) => item * 10);
        assert.deepEqual(ascending(random.permutation(size)), upTo(size));
        const drawn = Array.from(random.draw(items, count));
        assert.equal(drawn.length, count);
        assert.equal(new Set(drawn).size, Math.min(size, count));
        assert.ok(drawn.every((item) => items.includes(item)));
      }),
      { seed: 1 },
    );
  });
});

describe('Deck', () => {
  it('deals every item before any again, and different ones in a hand where it can', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 7 }),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 12 }),
        fc.nat(),
        (size, hands, seed) => {
          const deck = new Deck(upTo(size), new RandomSource(seed));
          const all: number[] = [];
          for (const count of hands) {
            const hand = Array.from(deck.deal(count));
            assert.equal(hand.length, count);
            const times = upTo(size).map((item) => hand.filter((other) => other === item).length);
            assert.ok(Math.max(...times) - Math.min(...times) <= 1);
            all.push(...hand);
          }
          for (let from = 0; from + size <= all.length; from += size) {
            assert.deepEqual(ascending(all.slice(from, from + size)), upTo(size));
          }
        },
      ),
      { seed: 1 },
    );
  });

  it('shuffles what is left after a hand that went over the end', () => {
    let again = 0;
    for (let seed = 0; seed < 400; seed++) {
      const deck = new Deck(upTo(3), new RandomSource(seed));
      deck.deal(2);
      const [last] = deck.deal(2);
      if (deck.deal(1)[0] === last) again++;
    }
    assert.ok(Math.abs(again - 200) < 50, String(again));
  });
});
