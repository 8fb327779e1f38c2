import * as assert from 'node:assert/strict';
import { stripVTControlCharacters } from 'node:util';
import { evaluationJson, renderTable } from '../../src/evaluate/table';
import { torch } from '../../src/torch';

const rows = [
  { name: 'raw pixels', dimension: 784, knn: 0.86, knnByClass: [0.86], linearProbe: 0.8451 },
  { name: 'trained encoder', dimension: 128, knn: 0.87456, knnByClass: [0.87], linearProbe: null },
];
const settings = { k: 20, temperature: 0.07, seed: 0, trainImages: 60000, testImages: 10000 };

describe('renderTable', () => {
  it('has a line for each kind of features, in percent', () => {
    assert.equal(
      renderTable({ rows, settings }),
      [
        '┌─────────────────┬───────────┬──────────────┬──────────────┐',
        '│ features        │ dimension │ kNN (k = 20) │ linear probe │',
        '├─────────────────┼───────────┼──────────────┼──────────────┤',
        '│ raw pixels      │       784 │      86.00 % │      84.51 % │',
        '├─────────────────┼───────────┼──────────────┼──────────────┤',
        '│ trained encoder │       128 │      87.46 % │            – │',
        '└─────────────────┴───────────┴──────────────┴──────────────┘',
      ].join('\n'),
    );
  });

  it('has no terminal codes unless asked for, and says the same with them', () => {
    const plain = renderTable({ rows, settings });
    assert.equal(stripVTControlCharacters(plain), plain);
    // Whether there are any depends on the terminal that the environment names.
    assert.equal(stripVTControlCharacters(renderTable({ rows, settings }, true)), plain);
  });
});

describe('evaluationJson', () => {
  it('holds all but the tensor', () => {
    const plain = {
      rows,
      settings,
      classNames: ['a'],
      similarities: null,
      untrainedSimilarities: null,
      retrievals: [],
    };
    const json = evaluationJson({ ...plain, testFeatures: torch.zeros([1, 2]) });
    assert.deepEqual(JSON.parse(JSON.stringify(json)), plain);
  });
});
