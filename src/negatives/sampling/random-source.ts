/** Random numbers for structures on the host: permutations and picks of positions, faster one by one than an operator call. */
import { deriveSeed } from '../../data/seed';

const low = (1n << 32n) - 1n;

/**
 * A stream of random numbers that follows from a seed and the stream's numbers alone (an epoch, a step), so that nothing but these needs
 * to be stored. The generator is xoshiro128** (Blackman and Vigna 2018), seeded by {@link deriveSeed}.
 */
export class RandomSource {
  readonly #state: Uint32Array;

  /** @throws InvalidArgumentError when a number is not an integer from 0 to 2⁵³ − 1 */
  constructor(seed: number, ...stream: number[]) {
    const words = [0, 1].map((half) => deriveSeed(seed, ...stream, half));
    // The state may not be all zeros.
    this.#state = Uint32Array.from(words.flatMap((word) => [Number(word & low), Number(word >> 32n)]));
    if (this.#state.every((word) => word === 0)) this.#state[0] = 1;
  }

  /** An integer from 0 to 2³² − 1. */
  bits(): number {
    const s = this.#state;
    const product = Math.imul(s[1]!, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= shifted;
    s[3] = (s[3]! << 11) | (s[3]! >>> 21);
    return result;
  }

  /** A number from 0 up to but not including 1, of 53 random bits. */
  uniform(): number {
    return ((this.bits() >>> 5) * 2 ** 26 + (this.bits() >>> 6)) / 2 ** 53;
  }

  /** An integer from 0 to `count` − 1, each equally likely. */
  integer(count: number): number {
    // The last, incomplete round of `count` numbers is thrown away: it would favour the small ones.
    const usable = 2 ** 32 - (2 ** 32 % count);
    let bits = this.bits();
    while (bits >= usable) bits = this.bits();
    return bits % count;
  }

  /** Puts the items into a random order, in place. */
  shuffle<T extends { length: number; [index: number]: V }, V>(items: T): T {
    for (let last = items.length - 1; last > 0; last--) {
      const other = this.integer(last + 1);
      const item = items[last]!;
      items[last] = items[other]!;
      items[other] = item;
    }
    return items;
  }

  /** The numbers from 0 to `count` − 1 in a random order. */
  permutation(count: number): Int32Array {
    return this.shuffle(Int32Array.from({ length: count }, (_, index) => index));
  }

  /** `count` of the items, each at most once, in a random order. */
  choose(items: ArrayLike<number>, count: number): Int32Array {
    const copy = Int32Array.from(items);
    for (let place = 0; place < count; place++) {
      const other = place + this.integer(copy.length - place);
      const item = copy[place]!;
      copy[place] = copy[other]!;
      copy[other] = item;
    }
    return copy.slice(0, count);
  }

  /** `count` of the items: each at most once if there are enough of them, otherwise each at least once and the rest at random. */
  draw(items: ArrayLike<number>, count: number): Int32Array {
    if (items.length >= count) return this.choose(items, count);
    const drawn = new Int32Array(count);
    drawn.set(this.choose(items, items.length));
    for (let place = items.length; place < count; place++) drawn[place] = items[this.integer(items.length)]!;
    return drawn;
  }

  /** A position in a list of weights, each as likely as its share of `total`, their sum. */
  weighted(weights: ArrayLike<number>, total: number): number {
    let left = this.uniform() * total;
    let chosen = -1;
    for (let index = 0; index < weights.length; index++) {
      if (!(weights[index]! > 0)) continue;
      chosen = index;
      left -= weights[index]!;
      if (left < 0) break;
    }
    return chosen;
  }
}

/** Deals items without repetition, and shuffles them anew when all have been dealt. */
export class Deck {
  readonly #items: Int32Array;
  readonly #random: RandomSource;
  #next: number;

  constructor(items: ArrayLike<number>, random: RandomSource) {
    this.#items = Int32Array.from(items);
    this.#random = random;
    this.#next = this.#items.length;
  }

  /** `count` items: all different if the deck has as many, otherwise each as often as the others, up to one. */
  deal(count: number): Int32Array {
    const dealt = new Int32Array(count);
    let done = 0;
    while (done < count) {
      if (this.#next === this.#items.length) this.#shuffle(dealt.subarray(0, done), count - done);
      const taken = Math.min(count - done, this.#items.length - this.#next);
      dealt.set(this.#items.subarray(this.#next, this.#next + taken), done);
      this.#next += taken;
      done += taken;
    }
    return dealt;
  }

  /** Shuffles so that the next `wanted` items are those that came least often in this very hand. */
  #shuffle(dealt: Int32Array, wanted: number): void {
    const items = this.#random.shuffle(this.#items);
    this.#next = 0;
    if (dealt.length === 0) return;
    const times = new Map<number, number>();
    for (const item of dealt) times.set(item, (times.get(item) ?? 0) + 1);
    items.sort((a, b) => (times.get(a) ?? 0) - (times.get(b) ?? 0));
    this.#random.shuffle(items.subarray(wanted));
  }
}
