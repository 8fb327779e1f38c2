/**
 * Emoji as four vendors draw them: 32 × 32 pixels, from the npm package `emoji-datasource` (made by Cal Henderson). The same emoji drawn by
 * Apple and by Google are two views of one thing, which makes the set one for cross-view retrieval.
 *
 * Licences: the package's data is under MIT. Of the drawings, Google's are under the Apache License 2.0 and Twitter's under CC BY 4.0;
 * Apple's are Apple's, not licensed for commercial use, and Facebook's have no clear licence. So they are read from the package, and
 * nothing of them is part of kontrast.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { dispose, noGrad, scope, torch, type Device } from '../torch';
import { InvalidArgumentError } from '../torch/errors';
import { DataError } from './errors';
import { ImageSet } from './image-set';
import { packageDirectory } from './package-directory';

const packageName = 'emoji-datasource';
const side = 32;
const pixels = 3 * side * side;
/** The sheets have one transparent pixel around each drawing. */
const cell = side + 2;

/** Who draws the emoji. */
export type EmojiVendor = 'apple' | 'facebook' | 'google' | 'twitter';

/** All vendors, in the order of the alphabet. */
export const emojiVendors: readonly EmojiVendor[] = ['apple', 'facebook', 'google', 'twitter'];

/** One emoji, whoever draws it. */
export interface Emoji {
  /** Its code points, e.g. `1F44B-1F3FD`. */
  unified: string;
  /** Its name, e.g. `waving hand sign, tone 3`. */
  name: string;
  /** E.g. `People & Body`. */
  category: string;
  /** E.g. `hand-fingers-open`. */
  subcategory: string;
  /** What its variants have in common: {@link emojiFamily}. */
  family: string;
}

/** An emoji that is not part of the set, and why. */
export interface DroppedEmoji {
  unified: string;
  name: string;
  reason: string;
}

/** What {@link loadEmoji} takes. */
export interface EmojiOptions {
  /** Whose drawings are wanted; an emoji that one of them has not drawn is left out. Default: all four. */
  vendors?: readonly EmojiVendor[];
  /** Whether each skin tone is an emoji of its own; otherwise only the first, yellow one is there. Default: true. */
  skinTones?: boolean;
  /** Where the tensors go. Default: `'cpu'`. */
  device?: Device;
  /** Folders above which the npm package is looked for; by default the working directory and kontrast's own folder. */
  packagePaths?: readonly string[];
}

/** How {@link EmojiSet.split} parts a set. */
export interface EmojiSplitOptions<Name extends string> {
  /** The names of the parts and how much of the set each gets; what counts is their proportion. */
  shares: Readonly<Record<Name, number>>;
  /** Another seed is another split. Default: 0. */
  seed?: number;
}

/** The same emoji by several vendors; row i is the same emoji everywhere. */
export class EmojiSet {
  /** Row i's emoji. */
  readonly emoji: readonly Emoji[];
  /** Each vendor's drawings on white, uint8 [N, 3, 32, 32]. An image's label is its row, a class's name the emoji's. */
  readonly drawings: ReadonlyMap<EmojiVendor, ImageSet>;
  /** What was left out. */
  readonly dropped: readonly DroppedEmoji[];

  constructor(parts: Pick<EmojiSet, 'emoji' | 'drawings' | 'dropped'>) {
    this.emoji = parts.emoji;
    this.drawings = parts.drawings;
    this.dropped = parts.dropped;
  }

  /** The number of emoji. */
  get size(): number {
    return this.emoji.length;
  }

  /** @throws InvalidArgumentError for a vendor whose drawings were not loaded */
  of(vendor: EmojiVendor): ImageSet {
    const set = this.drawings.get(vendor);
    if (set) return set;
    throw new InvalidArgumentError(
      `The emoji of "${vendor}" were not loaded, only those of ${[...this.drawings.keys()].join(', ')}.`,
    );
  }

  /**
   * Parts the rows by family, so that no emoji has a variant (another skin tone, gender, age, hair or direction) in another part.
   *
   * Each family goes where a hash of its name and the seed says: to the same part however many other emoji there are. So the parts have
   * their shares only about, and the rarer the larger a family is.
   *
   * @returns the rows of each part, in their order
   * @throws InvalidArgumentError for a share that is no positive number, or a seed that is no integer from 0
   */
  split<Name extends string>(options: EmojiSplitOptions<Name>): Record<Name, number[]> {
    const { shares, seed = 0 } = options;
    const names = Object.keys(shares) as Name[];
    const wrong = names.find((name) => !(shares[name] > 0 && shares[name] < Infinity));
    if (wrong !== undefined || names.length === 0) {
      throw new InvalidArgumentError(
        `A split needs shares above 0, found ${wrong === undefined ? 'none' : `${shares[wrong]} for "${wrong}"`}.`,
      );
    }
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new InvalidArgumentError(`A split's seed must be an integer from 0, not ${seed}.`);
    }
    const whole = names.reduce((sum, name) => sum + shares[name], 0);
    const parts = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
    this.emoji.forEach(({ family }, row) => {
      let place = whole * (createHash('sha256').update(`${seed}:${family}`).digest().readUInt32BE(0) / 2 ** 32);
      const part = names.find((name) => (place -= shares[name]) < 0) ?? names[names.length - 1]!;
      parts[part].push(row);
    });
    return parts;
  }

  /** Frees all drawings. */
  dispose(): void {
    for (const set of this.drawings.values()) set.dispose();
  }
}

/** What one line of the package's table must say. */
interface Entry {
  unified: string;
  name: string;
  category: string;
  subcategory: string;
  sheet_x: number;
  sheet_y: number;
  skin_variations?: Record<string, Omit<Entry, 'skin_variations'>>;
  [hasImage: `has_img_${string}`]: unknown;
}

type Drawn = Emoji & Pick<Entry, 'sheet_x' | 'sheet_y' | `has_img_${string}`>;

/**
 * Loads the drawings of some vendors: about 3,400 emoji with all vendors and skin tones, in two to three seconds.
 *
 * Two kinds of emoji are left out and listed in {@link EmojiSet.dropped}. Where a vendor has not drawn an emoji, the package's sheet shows
 * another vendor's drawing, which would be found without having learned anything. And where a vendor draws two emoji alike (a root mean square difference
 * of less than 1.5 of 255: the flags of Norway and of Svalbard, families that differ in names only), the later one is left out, since
 * nobody could tell which of them is meant.
 *
 * @throws DataError when the package is not installed, or not as expected
 */
export function loadEmoji(options: EmojiOptions = {}): EmojiSet {
  const { vendors = emojiVendors, skinTones = true, device = 'cpu', packagePaths } = options;
  const unknown = vendors.find((vendor) => !emojiVendors.includes(vendor));
  if (unknown !== undefined || vendors.length === 0 || new Set(vendors).size !== vendors.length) {
    throw new InvalidArgumentError(
      `vendors must be some of ${emojiVendors.join(', ')}, each once, not [${vendors.join(', ')}].`,
    );
  }
  const directory = packageDirectory(packageName, packagePaths);
  const dropped: DroppedEmoji[] = [];
  const drop = ({ unified, name }: Emoji, reason: string) => void dropped.push({ unified, name, reason });
  const drawn = readTable(path.join(directory, 'emoji.json'), skinTones).filter((emoji) => {
    const missing = vendors.find((vendor) => emoji[`has_img_${vendor}`] !== true);
    if (missing !== undefined) drop(emoji, `${missing} has not drawn it`);
    return missing === undefined;
  });
  const bytes = new Map<EmojiVendor, Uint8Array>();
  for (const vendor of vendors) {
    bytes.set(vendor, readSheet(path.join(directory, 'img', vendor, 'sheets', `${side}.png`), drawn));
  }
  const alike = new Map<number, string>();
  for (const [vendor, images] of bytes) {
    for (const [row, earlier] of findAlike(images, drawn.length)) {
      if (!alike.has(row))
        alike.set(row, `${vendor} draws it like ${drawn[earlier]!.name} (${drawn[earlier]!.unified})`);
    }
  }
  const kept: number[] = [];
  drawn.forEach((emoji, row) => {
    const reason = alike.get(row);
    if (reason === undefined) kept.push(row);
    else drop(emoji, reason);
  });
  const emoji = kept.map((row): Emoji => {
    const { unified, name, category, subcategory, family } = drawn[row]!;
    return { unified, name, category, subcategory, family };
  });
  const classNames = emoji.map(({ name }) => name);
  const drawings = new Map<EmojiVendor, ImageSet>();
  for (const [vendor, images] of bytes) {
    const left = new Uint8Array(kept.length * pixels);
    kept.forEach((row, at) => left.set(images.subarray(row * pixels, (row + 1) * pixels), at * pixels));
    const onCpu = torch.fromTypedArray(left, [kept.length, 3, side, side], { copy: false });
    const labels = torch.arange(kept.length, { dtype: 'int64', device });
    drawings.set(vendor, new ImageSet({ name: `emoji (${vendor})`, images: onCpu.to(device), labels, classNames }));
    dispose(onCpu);
  }
  return new EmojiSet({ emoji, drawings, dropped });
}

function readTable(file: string, skinTones: boolean): Drawn[] {
  let table: Entry[];
  try {
    table = JSON.parse(fs.readFileSync(file, 'utf8')) as Entry[];
  } catch (error) {
    throw damaged(file, error instanceof Error ? error.message : String(error), error);
  }
  if (!Array.isArray(table)) throw damaged(file, 'it is not a list');
  return table.flatMap((entry, line): Drawn[] => {
    const { unified, name, category, subcategory, skin_variations: variations = {} } = entry;
    if ([unified, name, category, subcategory].some((text) => typeof text !== 'string')) {
      throw damaged(file, `entry ${line} lacks its code points, name, category or subcategory`);
    }
    const shared = { category, subcategory, family: emojiFamily(unified, subcategory) };
    const plain = { ...entry, ...shared, name: name.toLowerCase() };
    const toned = Object.entries(skinTones ? variations : {}).map(([tones, variation]) => {
      const numbers = tones.split('-').map((tone) => Number.parseInt(tone, 16) - 0x1f3fa);
      return { ...variation, ...shared, name: `${plain.name}, tone ${numbers.join(' and ')}` };
    });
    return [plain, ...toned];
  });
}

/** All on white: uint8 [N, 3, 32, 32]. */
function readSheet(file: string, emoji: readonly Drawn[]): Uint8Array {
  // Loaded when it is needed, since importing kontrast must stay quick.
  const { PNG } = createRequire(__filename)('pngjs') as typeof import('pngjs');
  let sheet: { width: number; height: number; data: Buffer };
  try {
    sheet = PNG.sync.read(fs.readFileSync(file));
  } catch (error) {
    throw damaged(file, error instanceof Error ? error.message : String(error), error);
  }
  const images = new Uint8Array(emoji.length * pixels);
  emoji.forEach(({ unified, sheet_x: column, sheet_y: row }, index) => {
    const [left, top] = [column * cell + 1, row * cell + 1];
    if (!(left >= 0 && top >= 0 && left + side <= sheet.width && top + side <= sheet.height)) {
      throw damaged(file, `it has no place (${column}, ${row}), where ${unified} should be`);
    }
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const from = 4 * ((top + y) * sheet.width + left + x);
        const opacity = sheet.data[from + 3]! / 255;
        for (let channel = 0; channel < 3; channel++) {
          const to = index * pixels + (channel * side + y) * side + x;
          images[to] = Math.round(255 + opacity * (sheet.data[from + channel]! - 255));
        }
      }
    }
  });
  return images;
}

/** Drawings whose root mean square difference is below this, of 255, are the same but for rounding and compression. */
const sameBelow = 1.5;

/** Rows that look like an earlier row, with that row. */
function findAlike(images: Uint8Array, count: number): [row: number, earlier: number][] {
  if (count < 2) return [];
  // The means over 4 × 4 pixels differ at most as much as the pixels do, so only rows near in them need a closer look.
  const pairs = noGrad(() =>
    scope(() => {
      const all = torch.fromTypedArray(images, [count, 3, side, side], { copy: false }).to({ dtype: 'float32' });
      const means = all.avgPool2d([4, 4]).flatten(1).sub(128);
      const squares = means.mul(means).sum([1]);
      const negated = means.matmul(means.t()).mul_(2).sub_(squares).sub_(squares.unsqueeze(1));
      const near = negated
        .gt(-means.sizeOf(1) * (sameBelow + 0.5) ** 2)
        .triu(1)
        .nonzero();
      return Array.from(near.dataSync() as BigInt64Array, Number);
    }),
  );
  const found: [number, number][] = [];
  for (let pair = 0; pair < pairs.length; pair += 2) {
    const [earlier, row] = [pairs[pair]!, pairs[pair + 1]!];
    let sum = 0;
    for (let at = 0; at < pixels; at++) sum += (images[row * pixels + at]! - images[earlier * pixels + at]!) ** 2;
    if (Math.sqrt(sum / pixels) < sameBelow) found.push([row, earlier]);
  }
  return found;
}

const joiner = '200D';
/** What makes a variant and is left out: skin tones, the emoji style, female and male sign, to the right. */
const leftOut = new Set(['1F3FB', '1F3FC', '1F3FD', '1F3FE', '1F3FF', 'FE0F', '2640', '2642', '27A1']);
const person = '1F9D1';
const alikeBut = new Map([
  // Boy, girl, child, man, woman, old man, old woman, old person.
  ...['1F466', '1F467', '1F9D2', '1F468', '1F469', '1F474', '1F475', '1F9D3'].map((code) => [code, person] as const),
  // Prince and princess are a person with a crown, Mother Christmas is a Father Christmas.
  ...['1F934', '1F478'].map((code) => [code, '1FAC5'] as const),
  ['1F936', '1F385'],
  // A pregnant woman and man; a man who dances.
  ...['1F930', '1FAC3'].map((code) => [code, '1FAC4'] as const),
  ['1F57A', '1F483'],
]);
/** Those whose variants are written with other code points altogether. */
const spelledOut = new Map([
  [`${person}-1F384`, '1F385'],
  [`${person}-1F37C`, '1F931'],
]);

/**
 * The family of an emoji: the same for all that differ in skin tone, gender, age, hair or the direction they face, and for all couples and
 * families of one kind. Emoji that differ in colour, number or nation (hearts, clocks, flags) are families of their own.
 *
 * @param unified code points as hexadecimal numbers, joined by hyphens
 * @param subcategory the package's, e.g. `person-role`
 */
export function emojiFamily(unified: string, subcategory: string): string {
  const codes = unified.split('-');
  const has = (...some: string[]) => some.some((code) => codes.includes(code));
  if (subcategory === 'person') return 'person';
  if (subcategory === 'family') {
    if (has('1F48F', '1F48B')) return 'kiss';
    if (has('1F491', '2764')) return 'couple with heart';
    if (has('1F91D', '1F46B', '1F46C', '1F46D')) return 'holding hands';
    return 'family';
  }
  const rest = codes.filter((code) => code !== joiner && !leftOut.has(code)).map((code) => alikeBut.get(code) ?? code);
  // What consists of nothing else: the female sign, the arrow to the right, the tones themselves.
  if (rest.length === 0) return codes.filter((code) => code !== 'FE0F').join('-');
  const key = rest.join('-');
  return spelledOut.get(key) ?? key;
}

function damaged(file: string, what: string, cause?: unknown): DataError {
  return new DataError(
    `${file} of the npm package "${packageName}" is not as expected: ${what}. Install it again: ` +
      `npm uninstall ${packageName} && npm install ${packageName}@16.0.0`,
    'DATA_PACKAGE_DAMAGED',
    cause,
  );
}
