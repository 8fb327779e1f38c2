import assert from 'node:assert/strict';
import { argumentName } from '../../src/torch/argument-names';
import { camelCase, snakeCase, unpackNames } from '../../src/torch/names';
import { factoryNames, functionNames, handWrittenMembers, methodNames } from '../../src/torch/names.generated';

describe('names', () => {
  const cases: [snake: string, camel: string][] = [
    ['add', 'add'],
    ['add_', 'add_'],
    ['log_softmax', 'logSoftmax'],
    ['bitwise_and_', 'bitwiseAnd_'],
    ['max_pool2d', 'maxPool2d'],
    ['max_pool2d_with_indices', 'maxPool2dWithIndices'],
    ['adaptive_avg_pool2d', 'adaptiveAvgPool2d'],
    ['conv2d', 'conv2d'],
    ['log1p', 'log1p'],
    ['log1p_', 'log1p_'],
    ['atleast_1d', 'atleast1d'],
    ['matrix_H', 'matrixH'],
    ['mT', 'mT'],
    ['_fused_sgd_', '_fusedSgd_'],
    ['special_modified_bessel_i0', 'specialModifiedBesselI0'],
  ];
  for (const [snake, camel] of cases) {
    it(`${snake} is ${camel}`, () => assert.equal(camelCase(snake), camel));
  }

  it('snakeCase undoes camelCase for regular names', () => {
    for (const name of ['memory_format', 'keepdim', 'pin_memory', 'dropout_p', 'add_', 'p2']) {
      assert.equal(snakeCase(camelCase(name)), name);
    }
  });

  it('unpackNames splits at blanks and line ends', () => {
    assert.deepEqual(unpackNames('\nabs add\nadd_\n'), ['abs', 'add', 'add_']);
    assert.deepEqual(unpackNames('\n'), []);
  });

  it('argumentName knows regular, irregular and snake_case names', () => {
    const cases: Record<string, string> = {
      keepdim: 'keepdim',
      memoryFormat: 'memory_format',
      memory_format: 'memory_format',
      UPLO: 'UPLO',
      LUData: 'LU_data',
      LU_data: 'LU_data',
      normWeight1: 'norm_weight_1',
      HxW: 'HxW',
    };
    for (const [keyword, name] of Object.entries(cases)) assert.equal(argumentName(keyword), name);
  });
});

describe('names.generated', () => {
  const methods = unpackNames(methodNames);
  const functions = unpackNames(functionNames);

  it('has no name twice, also in camelCase', () => {
    for (const names of [methods, functions]) assert.equal(new Set(names.map(camelCase)).size, names.length);
  });

  it('holds what the library itself uses', () => {
    for (const name of [
      'add',
      'add_',
      'matmul',
      'log_softmax',
      'sum',
      'view',
      'contiguous',
      'numel',
      'copy_',
      'topk',
    ]) {
      assert.ok(methods.includes(name), name);
    }
    for (const name of [
      'zeros',
      'randn',
      'arange',
      'cat',
      'stack',
      'where',
      'einsum',
      'conv2d',
      'batch_norm',
      'full',
    ]) {
      assert.ok(functions.includes(name), name);
    }
  });

  it('leaves out private operators, derivatives and what is written by hand', () => {
    const members = new Set<string>(handWrittenMembers);
    for (const name of [...methods, ...functions]) {
      assert.ok(!name.startsWith('_') && !name.includes('_backward'), name);
      assert.ok(!members.has(camelCase(name)), name);
    }
  });

  it('factories are functions', () => {
    const factories = unpackNames(factoryNames);
    assert.ok(factories.includes('zeros') && factories.includes('rand_like') && !factories.includes('cat'));
    for (const name of factories) assert.ok(functions.includes(name), name);
  });
});
