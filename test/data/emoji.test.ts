import * as assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { PNG } from 'pngjs';
import { DataError } from '../../src/data/errors';
import { emojiFamily, emojiVendors, loadEmoji, type EmojiVendor } from '../../src/data/emoji';
import { packageDirectory } from '../../src/data/package-directory';
import { scratch } from '../support/scratch';

const has = (...missing: EmojiVendor[]) =>
  Object.fromEntries(emojiVendors.map((vendor) => [`has_img_${vendor}`, !missing.includes(vendor)]));

/** Pixel [x, y] of the drawing in cell [column, row]: red, green, blue and opacity. */
const drawing = (vendor: number, column: number, row: number, x: number, y: number) => [
  (60 * vendor + 90 * column + 7 * x) % 256,
  (80 * row + 5 * y) % 256,
  (x * y + 31 * vendor) % 256,
  (x + y) % 3 === 0 ? 255 : 40 * column,
];

/** Two tones of a hand, a man and a woman with a laptop, and a flag. */
const table = () => [
  {
    unified: '270B',
    name: 'RAISED HAND',
    category: 'People & Body',
    subcategory: 'hand-fingers-open',
    sheet_x: 0,
    sheet_y: 0,
    ...has(),
    skin_variations: {
      '1F3FB': { unified: '270B-1F3FB', sheet_x: 0, sheet_y: 1, ...has() },
      '1F3FC-1F3FF': { unified: '270B-1F3FC-200D-270B-1F3FF', sheet_x: 0, sheet_y: 2, ...has('facebook') },
    },
  },
  ...['1F468', '1F469'].map((code, index) => ({
    unified: `${code}-200D-1F4BB`,
    name: index === 0 ? 'MAN TECHNOLOGIST' : 'WOMAN TECHNOLOGIST',
    category: 'People & Body',
    subcategory: 'person-role',
    sheet_x: 1,
    sheet_y: index,
    ...has(),
  })),
  {
    unified: '1F1F3-1F1F4',
    name: 'Norway Flag',
    category: 'Flags',
    subcategory: 'country-flag',
    sheet_x: 2,
    sheet_y: 2,
    ...has(),
  },
];

describe('emoji', () => {
  const file = scratch();
  const inPackage = (...names: string[]) => file(path.join('node_modules', 'emoji-datasource', ...names));
  const sheetOf = (vendor: EmojiVendor) => inPackage('img', vendor, 'sheets', '32.png');

  /** Writes sheets of 3 by 3 drawings; `like` says whose place another drawing is copied to. */
  function install(
    like: { vendor?: EmojiVendor; from?: [number, number]; to?: [number, number]; error?: number } = {},
  ) {
    fs.mkdirSync(inPackage(), { recursive: true });
    fs.writeFileSync(inPackage('package.json'), '{"version":"16.0.0"}');
    fs.writeFileSync(inPackage('emoji.json'), JSON.stringify(table()));
    emojiVendors.forEach((vendor, number) => {
      const sheet = new PNG({ width: 102, height: 102 });
      for (let at = 0; at < 102 * 102; at++) {
        let [column, row] = [Math.floor((at % 102) / 34), Math.floor(at / 102 / 34)];
        const [x, y] = [(at % 34) - 1, (Math.floor(at / 102) % 34) - 1];
        // The border is not to be seen: it is of a colour that would be.
        let pixel = [1, 2, 3, 255];
        if (x >= 0 && y >= 0 && x < 32 && y < 32) {
          const copied = vendor === like.vendor && column === like.to?.[0] && row === like.to[1];
          if (copied) [column, row] = like.from!;
          pixel = drawing(number, column, row, x, y);
          if (copied) pixel[0] = pixel[0]! + (pixel[0]! > 127 ? -1 : 1) * (like.error ?? 0);
        }
        sheet.data.set(pixel, 4 * at);
      }
      fs.mkdirSync(path.dirname(sheetOf(vendor)), { recursive: true });
      fs.writeFileSync(sheetOf(vendor), PNG.sync.write(sheet));
    });
  }
  const load = (options: Parameters<typeof loadEmoji>[0] = {}) => loadEmoji({ packagePaths: [file('.')], ...options });

  it('cuts the drawings out of the sheets and puts them on white', () => {
    install();
    const set = load();
    assert.deepEqual(
      set.emoji.map(({ unified, name }) => [unified, name]),
      [
        ['270B', 'raised hand'],
        ['270B-1F3FB', 'raised hand, tone 1'],
        ['1F468-200D-1F4BB', 'man technologist'],
        ['1F469-200D-1F4BB', 'woman technologist'],
        ['1F1F3-1F1F4', 'norway flag'],
      ],
    );
    const places = [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
      [2, 2],
    ] as const;
    emojiVendors.forEach((vendor, number) => {
      const { images, labels, classNames } = set.of(vendor);
      assert.deepEqual(images.shape, [5, 3, 32, 32]);
      assert.deepEqual(Array.from(labels.dataSync() as BigInt64Array, Number), [0, 1, 2, 3, 4]);
      assert.equal(classNames[4], 'norway flag');
      const bytes = images.dataSync() as Uint8Array;
      places.forEach(([column, row], index) => {
        for (let y = 0; y < 32; y++) {
          for (let x = 0; x < 32; x++) {
            const [red, green, blue, opacity] = drawing(number, column, row, x, y) as [number, number, number, number];
            [red, green, blue].forEach((value, channel) => {
              const expected = Math.round((opacity * value + (255 - opacity) * 255) / 255);
              const found = bytes[((index * 3 + channel) * 32 + y) * 32 + x]!;
              assert.ok(Math.abs(found - expected) <= 1, `${vendor} ${index} [${channel}, ${y}, ${x}]: ${found}`);
              if (opacity === 255) assert.equal(found, value);
            });
          }
        }
      });
    });
  });

  it('leaves out what a vendor has not drawn, unless that vendor is not asked for', () => {
    install();
    const { dropped } = load();
    const toned = { unified: '270B-1F3FC-200D-270B-1F3FF', name: 'raised hand, tone 2 and 5' };
    assert.deepEqual(dropped, [{ ...toned, reason: 'facebook has not drawn it' }]);
    const three = load({ vendors: ['google', 'apple'] });
    assert.deepEqual(three.dropped, []);
    assert.deepEqual([...three.drawings.keys()], ['google', 'apple']);
    assert.equal(three.size, 6);
    assert.throws(() => three.of('twitter'), /"twitter" were not loaded, only those of google, apple/);
  });

  it('can leave out skin tones', () => {
    install();
    const set = load({ skinTones: false });
    assert.deepEqual(
      set.emoji.map(({ unified }) => unified),
      ['270B', '1F468-200D-1F4BB', '1F469-200D-1F4BB', '1F1F3-1F1F4'],
    );
  });

  it('leaves out the later of two emoji that one vendor draws alike, but not those that differ by more', () => {
    install({ vendor: 'google', from: [0, 0], to: [2, 2], error: 1 });
    const { dropped, size } = load({ skinTones: false });
    assert.deepEqual(dropped, [
      { unified: '1F1F3-1F1F4', name: 'norway flag', reason: 'google draws it like raised hand (270B)' },
    ]);
    assert.equal(size, 3);
    assert.equal(load({ skinTones: false, vendors: ['apple', 'twitter'] }).size, 4);
    // Opaque in a third of the places, so a root mean square of 6 · √(1/3 / 3) = 2.
    install({ vendor: 'google', from: [0, 0], to: [2, 2], error: 6 });
    assert.equal(load({ skinTones: false }).size, 4);
  });

  it('splits by family, about by shares, in a way that does not depend on the other emoji', () => {
    install();
    const set = load();
    const fewer = load({ skinTones: false });
    const seen = new Set<string>();
    for (let seed = 0; seed < 40; seed++) {
      const { train, test } = set.split({ shares: { train: 3, test: 1 }, seed });
      assert.deepEqual(
        [...train, ...test].sort((a, b) => a - b),
        [0, 1, 2, 3, 4],
      );
      assert.equal(test.includes(0), test.includes(1));
      assert.equal(test.includes(2), test.includes(3));
      const few = fewer.split({ shares: { train: 3, test: 1 }, seed });
      assert.equal(few.test.includes(3), test.includes(4));
      seen.add(test.join());
    }
    assert.ok(seen.size > 3, [...seen].join(' | '));
    assert.deepEqual(set.split({ shares: { all: 0.1 } }), { all: [0, 1, 2, 3, 4] });
    assert.throws(() => set.split({ shares: { train: 1, test: 0 } }), /shares above 0, found 0 for "test"/);
    assert.throws(() => set.split({ shares: {} }), /shares above 0, found none/);
    assert.throws(() => set.split({ shares: { train: 1 }, seed: -1 }), /seed must be an integer from 0, not -1/);
  });

  it('knows variants', () => {
    const families: [subcategory: string, ...codes: string[]][] = [
      ['person-role', '1F468-200D-1F4BB', '1F469-1F3FD-200D-1F4BB', '1F9D1-200D-1F4BB'],
      ['person-activity', '1F3C3', '1F3C3-200D-2640-FE0F', '1F3C3-1F3FF-200D-2642-FE0F-200D-27A1-FE0F'],
      ['person-activity', '1F483', '1F57A'],
      ['person', '1F466', '1F475', '1F9D4-200D-2640-FE0F', '1F9D1-200D-1F9B2'],
      ['person-fantasy', '1F385', '1F936', '1F9D1-200D-1F384'],
      ['person-role', '1F934', '1F478', '1FAC5'],
      ['person-role', '1F930', '1FAC3', '1FAC4'],
      ['person-role', '1F931', '1F469-200D-1F37C'],
      ['family', '1F48F', '1F469-200D-2764-FE0F-200D-1F48B-200D-1F468'],
      ['family', '1F491', '1F468-200D-2764-FE0F-200D-1F468'],
      ['family', '1F46B', '1F9D1-200D-1F91D-200D-1F9D1'],
      ['family', '1F46A', '1F468-200D-1F467'],
      ['gender', '2640-FE0F'],
      ['gender', '2642-FE0F'],
      ['arrow', '27A1-FE0F'],
      ['heart', '2764-FE0F'],
      ['heart', '1F499'],
    ];
    const names = families.map(([subcategory, ...codes]) => {
      const found = new Set(codes.map((code) => emojiFamily(code, subcategory)));
      assert.equal(found.size, 1, `${codes.join(' ')}: ${[...found].join(' ')}`);
      return [...found][0];
    });
    assert.equal(new Set(names).size, names.length, names.join(' '));
  });

  it('says what is wrong with the package or the options', () => {
    assert.throws(
      () => load(),
      (error) =>
        error instanceof DataError &&
        error.code === 'DATA_PACKAGE_MISSING' &&
        error.message.includes('npm install emoji-datasource'),
    );
    const damaged = (what: RegExp) =>
      assert.throws(
        () => load(),
        (error: unknown) => {
          assert.ok(error instanceof DataError && error.code === 'DATA_PACKAGE_DAMAGED', String(error));
          assert.match(error.message, what);
          return true;
        },
      );
    install();
    fs.writeFileSync(sheetOf('google'), PNG.sync.write(new PNG({ width: 68, height: 68 })));
    damaged(/no place \(2, 2\), where 1F1F3-1F1F4 should be/);
    fs.writeFileSync(sheetOf('google'), 'no picture');
    damaged(/google.*32\.png/);
    fs.rmSync(sheetOf('google'));
    damaged(/ENOENT/);
    for (const [text, what] of [
      ['{', /JSON/],
      ['{}', /not a list/],
      ['[{"unified":"270B"}]', /entry 0 lacks/],
    ] as const) {
      fs.writeFileSync(inPackage('emoji.json'), text);
      damaged(what);
    }
    for (const vendors of [[], ['apple', 'apple'], ['samsung' as EmojiVendor]] as EmojiVendor[][]) {
      assert.throws(() => load({ vendors }), /vendors must be some of apple, facebook, google, twitter, each once/);
    }
  });

  it('loads the real package', function () {
    try {
      packageDirectory('emoji-datasource');
    } catch {
      console.log('      skipped: npm install emoji-datasource@16.0.0');
      this.skip();
    }
    const set = loadEmoji({ vendors: ['google', 'apple'] });
    assert.equal(set.size, 3735);
    assert.equal(set.dropped.length, 51);
    assert.ok(
      set.dropped.some(({ name, reason }) => name === 'svalbard & jan mayen flag' && /draws it like/.test(reason)),
    );
    const { train, test } = set.split({ shares: { train: 4, test: 1 } });
    const families = new Set(train.map((row) => set.emoji[row]!.family));
    assert.ok(test.every((row) => !families.has(set.emoji[row]!.family)));
    assert.ok(test.length > 500 && test.length < 1000, String(test.length));
    // An apple is red, whoever draws it.
    const apple = set.emoji.findIndex(({ unified }) => unified === '1F34E');
    for (const vendor of ['google', 'apple'] as const) {
      const [red, green, blue] = Array.from(
        set.of(vendor).images.select(0, apple).to({ dtype: 'float32' }).mean([1, 2]).dataSync() as Float32Array,
      ) as [number, number, number];
      assert.ok(red > green + 20 && red > blue + 20, `${vendor}: ${red}, ${green}, ${blue}`);
    }
    set.dispose();
  });
});
