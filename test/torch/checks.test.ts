/** Each refused call here would end the process if LibTorch were asked. */
import assert from 'node:assert/strict';
import { InvalidArgumentError, ops, scope, torch, type DType, type Tensor } from '../../src/torch';
import { callOperatorAsync } from '../../src/torch/frame';
import { native } from '../../src/torch/native';

type AnyFunction = (...args: unknown[]) => unknown;

function ones(shape: number[], dtype: DType = 'float32'): Tensor {
  return torch.ones(shape, { dtype });
}

const integers = (...values: number[]): Tensor => torch.tensor(values, { dtype: 'int64' });
const quantized = (...shape: number[]): Tensor => torch.quantizePerTensor(torch.ones(shape), 0.1, 0, 'quint8');
const lstm = (weight: number[], mode = 2): unknown[] => {
  const rest = [
    ones([4, 1]),
    ones([4]),
    ones([4]),
    ones([2, 1]),
    ones([2, 1]),
    false,
    [],
    mode,
    1,
    1,
    true,
    false,
    false,
    false,
  ];
  return [ones([3, 2, 5]), ones(weight), ...rest];
};
const sgd = {
  weight_decay: 0,
  momentum: 0,
  lr: 0.1,
  dampening: 0,
  nesterov: false,
  maximize: false,
  is_first_step: true,
};

/** An overload, arguments that are refused, what the error says, and the nearest arguments that are taken. */
const cases: [overload: string, refused: () => unknown[], says: RegExp, taken: () => unknown[]][] = [
  ['aten::_stack.default', () => [[]], /'tensors' must not be empty/, () => [[ones([2])]]],
  [
    'aten::_foreach_copy.default',
    () => [[], [ones([2])]],
    /'self' must have as many tensors as 'src', 1, not 0/,
    () => [[ones([2])], [ones([2])]],
  ],
  [
    'aten::copy.default',
    () => [ones([2, 2]).toSparseCsr(), ones([2, 2])],
    /'self' must be a strided/,
    () => [ones([2]), ones([2])],
  ],
  [
    'aten::_fused_sgd_.default',
    () => [[ones([2])], [ones([1])], [], sgd],
    /'grads' must be strided and have the shapes of 'self'/,
    () => [[ones([2])], [ones([2])], [], sgd],
  ],
  [
    'aten::native_batch_norm.default',
    () => [ones([3, 2]), null, null, null, null, false, 0.1, 1e-5],
    /'running_mean' must be given/,
    () => [ones([3, 2]), null, null, ones([2]), ones([2]), false, 0.1, 1e-5],
  ],
  [
    'aten::native_batch_norm.default',
    () => [ones([3, 2]), ones([1]), null, null, null, true, 0.1, 1e-5],
    /'weight' must be dense and have 2 elements, not 1/,
    () => [ones([3, 2]), ones([2]), null, null, null, true, 0.1, 1e-5],
  ],
  [
    'aten::_native_batch_norm_legit.no_stats',
    () => [ones([3, 2]), null, null, false, 0.1, 1e-5],
    /'training' must be true/,
    () => [ones([3, 2]), null, null, true, 0.1, 1e-5],
  ],
  [
    'aten::native_batch_norm_backward.default',
    () => [ones([3, 2]), ones([3, 2]), null, null, null, null, ones([2]), true, 1e-5, [true, false, false]],
    /'save_mean' must be given/,
    () => [ones([3, 2]), ones([3, 2]), null, null, null, ones([2]), ones([2]), true, 1e-5, [true, false, false]],
  ],
  [
    'aten::native_batch_norm_backward.default',
    () => [ones([3, 0]), ones([3, 0]), null, null, null, ones([0]), ones([0]), true, 1e-5, [true, false, false]],
    /'input' must not be empty/,
    () => [ones([3, 1]), ones([3, 1]), null, null, null, ones([1]), ones([1]), true, 1e-5, [true, false, false]],
  ],
  [
    'aten::native_group_norm.default',
    () => [ones([1, 2, 1]), quantized(2), null, 1, 2, 1, 0, 1e-5],
    /'group' must be positive, not 0/,
    () => [ones([1, 2, 1]), ones([2]), null, 1, 2, 1, 1, 1e-5],
  ],
  [
    'aten::_weight_norm.default',
    () => [ones([0, 3]), ones([0, 1])],
    /'v' must have elements along dimension 0/,
    () => [ones([3, 0]), ones([3, 1])],
  ],
  [
    'aten::_transform_bias_rescale_qkv.default',
    () => [ones([2, 3, 6]), ones([6]), 0],
    /'num_heads' must be positive/,
    () => [ones([2, 3, 6]), ones([6]), 2],
  ],
  [
    'aten::linalg_eigvals.default',
    () => [ones([3, 3]).mul(NaN)],
    /'self' must not contain infs or NaNs/,
    () => [ones([3, 3])],
  ],
  [
    'aten::lu_unpack.default',
    () => [ones([2, 3, 4]), ones([3, 0], 'int32')],
    /'LU_pivots' must be strided and have the shape \[2, 3\], not \[3, 0\]/,
    () => [ones([2, 3, 4]), ones([2, 3], 'int32')],
  ],
  [
    'aten::_cholesky_solve_helper.default',
    () => [ones([2, 3]), ones([3, 0]), false],
    /'A' must be strided and have the shape \[2, 2\]/,
    () => [ones([2, 3]), ones([2, 2]), false],
  ],
  [
    'aten::lstm.input',
    () => [ones([2, 3, 4], 'bool'), [ones([1, 3, 5]), ones([1, 3, 5])], [], true, 1, 0, false, false, false],
    /'params' must not be empty/,
    () => [
      ones([2, 3, 4]),
      [ones([1, 3, 5]), ones([1, 3, 5])],
      [ones([20, 4]), ones([20, 5]), ones([20]), ones([20])],
      true,
      1,
      0,
      false,
      false,
      false,
    ],
  ],
  [
    'aten::mkldnn_rnn_layer.default',
    () => lstm([0]),
    /'weight0' must be dense and have 20 elements/,
    () => lstm([4, 5]),
  ],
  ['aten::mkldnn_rnn_layer.default', () => lstm([4, 5], 3), /'mode' must be 2/, () => lstm([4, 5], 2)],
  [
    'aten::_thnn_differentiable_lstm_cell_backward.default',
    () => [ones([2, 1]), null, ones([2, 2]), ones([2, 2]), null, null, ones([2, 1]), ones([2, 1])],
    /'input_gates' must split into 4 gates along dimension 1, of size 2/,
    () => [ones([2, 1]), null, ones([2, 4]), ones([2, 4]), null, null, ones([2, 1]), ones([2, 1])],
  ],
  [
    'aten::upsample_nearest2d.default',
    () => [ones([1, 1, 2, 2]), [4, 4], 1e-320, 2],
    /'scales_h' must not be so small/,
    () => [ones([1, 1, 2, 2]), [4, 4], 1e-12, 2],
  ],
  [
    'aten::reflection_pad2d_backward.default',
    () => [ones([2, 3, 4, 4]), ones([2, 3, 2, 2]), []],
    /'padding' must have 4 items, not 0/,
    () => [ones([2, 3, 4, 4]), ones([2, 3, 2, 2]), [1, 1, 1, 1]],
  ],
  [
    'aten::fractional_max_pool2d_backward.default',
    () => [ones([1, 2, 2]), ones([1, 4, 4]), [2, 2], [], ones([1, 2, 2], 'int64')],
    /'output_size' must have 2 items, not 0/,
    () => [ones([1, 2, 2]), ones([1, 4, 4]), [2, 2], [2, 2], ones([1, 2, 2], 'int64')],
  ],
  [
    'aten::_cdist_backward.default',
    () => [ones([2, 2]), ones([2, 3]), ones([2, 3]), 2, ones([0])],
    /'cdist' must be strided and have the shape \[2, 2\]/,
    () => [ones([2, 2]), ones([2, 3]), ones([2, 3]), 2, ones([2, 2])],
  ],
  [
    'aten::_pdist_backward.default',
    () => [ones([0]), ones([3, 3]), 2, ones([3])],
    /'grad' must be strided and have the shape \[3\]/,
    () => [ones([3]), ones([3, 3]), 2, ones([3])],
  ],
  [
    'aten::_fft_r2c.default',
    () => [ones([2, 3]), [2 ** 40], 0, true],
    /'dim' must be between 0 and 1, not 1099511627776/,
    () => [ones([2, 3]), [1], 0, true],
  ],
  [
    'aten::_fft_c2c.default',
    () => [ones([2, 3], 'complex64'), [1, -1, 1], 0, true],
    /'dim' must hold no dimension twice/,
    () => [ones([2, 3], 'complex64'), [0, -1], 0, true],
  ],
  [
    'aten::_convert_indices_from_coo_to_csr.default',
    () => [integers(0, 1e9), 2],
    /'self' must hold numbers of rows, between 0 and 1/,
    () => [integers(0, 1), 2],
  ],
  [
    'aten::_convert_indices_from_csr_to_coo.default',
    () => [integers(0, 1e9), integers(0, 1)],
    /'crow_indices' must rise from 0/,
    () => [integers(0, 2), integers(0, 1)],
  ],
  [
    'aten::_ctc_loss_backward.default',
    () => [ones([1]), ones([2, 1, 3]), ones([1, 1], 'int64'), [], [], ones([1]), ones([1, 2, 3]), 0],
    /'input_lengths' must have 1 items, not 0/,
    () => [ones([1]), ones([2, 1, 3]), ones([1, 1], 'int64'), [2], [1], ones([1]), ones([1, 2, 3]), 0],
  ],
  [
    'aten::_sobol_engine_initialize_state_.default',
    () => [ones([3, 0], 'int64'), 3],
    /'self' must have the shape \[3, 30\]/,
    () => [ones([3, 30], 'int64'), 3],
  ],
  [
    'aten::_cummax_helper.default',
    () => [ones([0, 3]), ones([0, 3]), ones([0, 3], 'int64'), 1],
    /'self' must not be empty/,
    () => [ones([0, 3]), ones([0, 3]), ones([0, 3], 'int64'), 0],
  ],
  [
    'aten::_remove_batch_dim.default',
    () => [ones([2]), 1, 3, 1e6],
    /'out_dim' must be between 0 and 1/,
    () => [ones([2]), 1, 3, 0],
  ],
  [
    'aten::_reshape_alias_copy.default',
    () => [ones([2]), [1000000000], [1]],
    /'size' must not reach beyond the memory/,
    () => [ones([4]), [2, 2], [2, 1]],
  ],
  ['aten::view_copy.dtype', () => [quantized(4), 'uint8'], /'self' must not be quantized/, () => [ones([4]), 'uint8']],
  [
    'aten::view.dtype',
    () => [quantized(4), 'uint8'],
    /'self' must not be quantized where/,
    () => [quantized(4), 'quint8'],
  ],
  [
    'mkldnn::_reorder_convolution_weight.default',
    () => [ones([1, 1, 5, 5]), [0, 0], [0, -1]],
    /'stride' must be positive, not 0/,
    () => [ones([1, 1, 5, 5]), [0, 0], [1, 1]],
  ],
  [
    'aten::batch_norm_update_stats.default',
    () => [ones([3, 2]), ones([0]), null, 0.1],
    /'running_mean' must be dense and have 2 elements, not 0/,
    () => [ones([3, 2]), ones([2]), null, 0.1],
  ],
  [
    'aten::_log_softmax_backward_data.default',
    () => [ones([2, 0, 4]), ones([3]), 0, 'float32'],
    /'grad_output' must be strided and have the shape \[3\], not \[2, 0, 4\]/,
    () => [ones([3]), ones([3]), 0, 'float32'],
  ],
  [
    'aten::_nested_from_padded.default',
    () => [ones([4]), ones([3, 2, 0, 4], 'int64')],
    /'cpu_nested_shape_example' must be contiguous and have two dimensions, not 4/,
    () => [
      ones([2, 3, 4]),
      torch.tensor(
        [
          [3, 4],
          [2, 4],
        ],
        { dtype: 'int64' },
      ),
    ],
  ],
  ['aten::_chunk_cat.default', () => [[ones([])], 0, 1], /'tensors' must have at least one/, () => [[ones([2])], 0, 1]],
  [
    'aten::range.step',
    () => [0, 4, -0.5, { dtype: 'int16' }],
    /'step' must not round to 0/,
    () => [0, 4, 1.5, { dtype: 'int16' }],
  ],
  [
    'aten::embedding_dense_backward.default',
    () => [ones([2, 3]), integers(0, 1e9), 2, -1, true],
    /'indices' must be between 0 and 1/,
    () => [ones([2, 3]), integers(0, 1), 2, -1, true],
  ],
  [
    'aten::_saturate_weight_to_fp16.default',
    () => [ones([3, 3, 0])],
    /'weight' must be dense and have 9 elements, not 0/,
    () => [ones([3, 0])],
  ],
  [
    'aten::_pdist_backward.default',
    () => [ones([0]), ones([0, 3]), 2, ones([0])],
    /'self' must have rows/,
    () => [ones([0]), ones([1, 3]), 2, ones([0])],
  ],
  [
    'aten::random_.from',
    () => [ones([2]), 2n ** 63n - 1n, null],
    /'from' must be less than 9223372036854775807 for floats/,
    () => [ones([2], 'int64'), 2n ** 63n - 1n, null],
  ],
  [
    'aten::smooth_l1_loss_backward.default',
    () => [ones([40], 'int32'), ones([40], 'int32'), ones([40], 'int32'), 0, 0.5],
    /'beta' must not round to 0 for integers, 0.5/,
    () => [ones([40], 'int32'), ones([40], 'int32'), ones([40], 'int32'), 0, 1],
  ],
  [
    'aten::reflection_pad1d.out',
    () => [quantized(2, 3, 4), [2 ** 31 - 1, 0], { out: quantized(2, 3, 4) }],
    /'padding' must be between -4 and 3, not 2147483647/,
    () => [quantized(2, 3, 4), [1, 1], { out: quantized(2, 3, 6) }],
  ],
  [
    'aten::reflection_pad1d.out',
    () => [quantized(2, 3, 4), [1, 1], { out: quantized(2, 3, 4) }],
    /'out' must be strided and have the shape \[2, 3, 6\]/,
    () => [ones([2, 3, 4]), [1, 1], { out: ones([2, 3, 4]) }],
  ],
  [
    'quantized::embedding_bag_4bit_prepack.default',
    () => [ones([4, 4]), true, 1, Infinity],
    /'ratio' must be finite/,
    () => [ones([4, 4]), true, 1, 0.5],
  ],
  [
    'quantized::embedding_bag_2bit_prepack.default',
    () => [ones([4, 4]), true, -1],
    /'nbins' must not be negative/,
    () => [ones([4, 4]), false, -1],
  ],
  [
    'mkldnn_prepacked::conv2d_prepack.default',
    () => [ones([2, 3, 1, 1]), null, [0, 0], [0, 0], [1, 1], 1, [1, 3, 4, 4], 'none'],
    /'stride' must be positive, not 0/,
    () => [ones([2, 3, 1, 1]), null, [1, 1], [0, 0], [1, 1], 1, [1, 3, 4, 4], 'none'],
  ],
];

function overload(name: string): AnyFunction {
  const [namespace, operator, variant] = name.split(/::|\./) as [string, string, string];
  return (ops as unknown as Record<string, Record<string, Record<string, AnyFunction>>>)[namespace]![operator]![
    variant
  ]!;
}

describe('checks of arguments that operators take on trust', () => {
  for (const [name, refused, says, taken] of cases) {
    it(`${name}: ${says.source}`, () => {
      scope(() => {
        assert.throws(
          () => overload(name)(...refused()),
          (error: unknown) => {
            assert(error instanceof InvalidArgumentError);
            assert.equal(error.code, 'INVALID_ARGUMENT');
            assert.match(error.message, says);
            assert(error.operator?.startsWith(name.split('.')[0]!));
            return true;
          },
        );
        overload(name)(...taken());
      });
    });
  }

  it('are made beside the event loop, too', async () => {
    const eigenvalues = native.operator('aten::linalg_eigvals');
    await assert.rejects(callOperatorAsync(eigenvalues, [ones([2, 2]).mul(NaN)]), (error: unknown) => {
      assert(error instanceof InvalidArgumentError);
      assert.equal(error.operator, 'aten::linalg_eigvals');
      return /'self' must not contain infs or NaNs/.test(error.message);
    });
    assert.deepEqual(((await callOperatorAsync(eigenvalues, [ones([2, 2])])) as Tensor).shape, [2]);
  });

  it('know an argument by its name', () => {
    assert.throws(() => overload('aten::_stack.default')({ tensors: [] }), /'tensors' must not be empty/);
  });

  it('are made of the numbers that stand for calls of one form', () => {
    const norm = overload('aten::_transform_bias_rescale_qkv.default');
    norm(ones([2, 3, 6]), ones([6]), 2);
    assert.throws(() => norm(ones([2, 3, 6]), ones([6]), 0), InvalidArgumentError);
    norm(ones([2, 3, 6]), ones([6]), 1);
  });
});
