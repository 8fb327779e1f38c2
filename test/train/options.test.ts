import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  choice,
  closest,
  describeOptions,
  formatOption,
  option,
  optionFlag,
  parseOptions,
  resolveOptions,
  type OptionValues,
} from '../../src/train/options';

const declarations = {
  batchSize: option(256, 'images a step', { integer: true, minimum: 2 }),
  learningRate: 1e-3,
  decay: option(0.5, 'of the rate', { above: 0, maximum: 1 }),
  flip: true,
  rotate: false,
  note: 'none',
  widths: [32, 64],
  sizes: option([3], 'of the layers', { integer: true, maximum: 9 }),
  tags: option([] as string[], 'labels of the run'),
  optimizer: choice(['adamw', 'sgd'], 'the optimiser'),
};

describe('recipe options', () => {
  it('types values by their defaults', () => {
    const values: OptionValues<typeof declarations> = resolveOptions(declarations);
    const batchSize: number = values.batchSize;
    const optimizer: 'adamw' | 'sgd' = values.optimizer;
    const widths: readonly number[] = values.widths;
    assert.deepEqual([batchSize, optimizer, widths], [256, 'adamw', [32, 64]]);
  });

  it('names options in kebab case', () => {
    assert.equal(optionFlag('batchSize'), '--batch-size');
    assert.equal(optionFlag('flip'), '--flip');
  });

  it('parses every kind of value', () => {
    const words = ['--batch-size', '128', '--learning-rate=-2e-4', '--no-flip', '--rotate', '--note', '--odd one'];
    assert.deepEqual(
      parseOptions(declarations, [...words, '--widths', '8,16,32', '--tags=a,b', '--optimizer', 'sgd']),
      {
        batchSize: 128,
        learningRate: -2e-4,
        flip: false,
        rotate: true,
        note: '--odd one',
        widths: [8, 16, 32],
        tags: ['a', 'b'],
        optimizer: 'sgd',
      },
    );
  });

  it('lets a boolean be spelled out', () => {
    assert.deepEqual(parseOptions(declarations, ['--flip', 'false', '--rotate=true']), { flip: false, rotate: true });
    assert.throws(() => parseOptions(declarations, ['--flip=maybe']), /--flip needs true or false, not maybe/);
    assert.throws(() => parseOptions(declarations, ['--no-flip=true']), /--no-flip takes no value/);
  });

  it('names the nearest option and all of them when one is unknown', () => {
    assert.throws(
      () => parseOptions(declarations, ['--batchsize', '1']),
      /unknown recipe option --batchsize; did you mean --batch-size\? .* --batch-size, --learning-rate, .*--optimizer/,
    );
    assert.throws(() => parseOptions(declarations, ['--zzzzzz']), /unknown recipe option --zzzzzz\. The recipe's/);
    assert.throws(() => parseOptions(declarations, ['--no-batch-size']), /unknown recipe option/);
    assert.throws(
      () => parseOptions(declarations, ['--resum']),
      /unknown recipe option --resum; did you mean --resume\?/,
    );
    assert.throws(() => parseOptions({}, ['--x']), /has no options/);
    assert.throws(() => resolveOptions(declarations, { batchsize: 1 }), /did you mean --batch-size/);
  });

  it('refuses values of another type or outside the limits', () => {
    const cases: [string[], RegExp][] = [
      [['--batch-size', 'many'], /--batch-size needs a whole number of at least 2, not many/],
      [['--batch-size', '2.5'], /whole number/],
      [['--batch-size', '1'], /at least 2/],
      [['--batch-size'], /--batch-size needs/],
      [['--batch-size', ''], /--batch-size needs/],
      [['--learning-rate', 'NaN'], /a number, not NaN/],
      [['--learning-rate', 'Infinity'], /a number/],
      [['--decay', '0'], /--decay needs a number above 0 and at most 1, not 0/],
      [['--decay', '1.5'], /at most 1, not 1\.5/],
      [['--sizes', '3,10'], /each item a whole number of at most 9, not 3,10/],
      [['--widths', '1,x'], /a list such as 1,2,3/],
      [['--optimizer', 'lamb'], /one of adamw, sgd, not lamb/],
      [['loose'], /unexpected argument 'loose'/],
      [['--'], /unexpected argument/],
    ];
    for (const [words, message] of cases) assert.throws(() => parseOptions(declarations, words), message);
    assert.throws(() => resolveOptions(declarations, { flip: 'yes' }), /--flip needs true or false, not "yes"/);
    assert.throws(() => resolveOptions(declarations, { widths: 3 }), /--widths needs a list/);
  });

  it('reads back whatever it writes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 1e9 }),
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        fc.string(),
        fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), { minLength: 1 }),
        (batchSize, learningRate, note, widths) => {
          const values = { batchSize, learningRate: learningRate + 0, note, widths: widths.map((width) => width + 0) };
          const words = Object.entries(values).flatMap(([name, value]) => [optionFlag(name), formatOption(value)]);
          assert.deepEqual(parseOptions(declarations, words), values);
        },
      ),
    );
  });

  it('describes each option with its default', () => {
    const lines = describeOptions(declarations).map(({ term, description }) => `${term} | ${description}`);
    assert.deepEqual(lines, [
      '--batch-size <number> | images a step (whole number of at least 2; default: 256)',
      '--learning-rate <number> | (default: 0.001)',
      '--decay <number> | of the rate (number above 0 and at most 1; default: 0.5)',
      '--no-flip | (default: on)',
      '--rotate | (default: off)',
      '--note <text> | (default: none)',
      '--widths <list> | (default: 32,64)',
      '--sizes <list> | of the layers (each a whole number of at most 9; default: 3)',
      '--tags <list> | labels of the run (default: )',
      '--optimizer <choice> | the optimiser (one of adamw, sgd; default: adamw)',
    ]);
  });

  it('suggests only what is near', () => {
    assert.equal(closest('--queue-sise', ['--queue-size', '--batch-size']), '--queue-size');
    assert.equal(closest('--abc', ['--temperature']), undefined);
  });
});
