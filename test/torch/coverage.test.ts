import assert from 'node:assert/strict';
import { defaultGenerator, operatorSchemas, ops, Stream, torch, type Tensor } from '../../src/torch';
import { resolveOverload } from '../../src/torch/frame';
import { native } from '../../src/torch/native';
import { TorchObject } from '../../src/torch/object-handle';
import { parseSchema, type Schema } from '../../scripts/types/schema';
import { reasonForNotCalling } from '../../scripts/types/unreachable';

const scalar = torch.ones([]);
const tensor = torch.ones([2, 2]);

/** A packed weight of each class that this LibTorch can make. */
function packedWeights(): Map<string, TorchObject> {
  const made = new Map<string, TorchObject>();
  const quantized = (shape: number[]): Tensor => torch.quantizePerTensor(torch.ones(shape), 0.1, 0, 'qint8');
  const note = (name: string, make: () => unknown): void => {
    made.set(`__torch__.torch.classes.${name}`, make() as TorchObject);
  };
  const { quantized: q, mkldnn_prepacked: m } = ops;
  note('quantized.LinearPackedParamsBase', () => q!.linear_prepack!(quantized([2, 2]), null));
  note('quantized.Conv2dPackedParamsBase', () =>
    q!.conv2d_prepack!(quantized([1, 1, 1, 1]), null, [1, 1], [0, 0], [1, 1], 1),
  );
  note('quantized.Conv3dPackedParamsBase', () =>
    q!.conv3d_prepack!(quantized([1, 1, 1, 1, 1]), null, [1, 1, 1], [0, 0, 0], [1, 1, 1], 1),
  );
  note('quantized.EmbeddingPackedParamsBase', () => {
    const weight = torch.quantizePerChannel(torch.ones([2, 4]), torch.ones([2]), torch.zeros([2]), 0, 'quint8');
    return q!.embedding_bag_prepack!(weight);
  });
  note('mkldnn.ConvOpContext', () =>
    m!.conv2d_prepack!(torch.ones([1, 1, 1, 1]), null, [1, 1], [0, 0], [1, 1], 1, [1, 1, 2, 2], 'none'),
  );
  note('rnn.CellParamsBase', () => {
    const [ih, hh] = [q!.linear_prepack!(quantized([4, 2]), null), q!.linear_prepack!(quantized([4, 2]), null)];
    return q!.make_quantized_cell_params_dynamic!(ih, hh, torch.zeros([4]), torch.zeros([4]), false);
  });
  note('profiler._RecordFunction', () => ops.profiler!._record_function_enter_new!('a test'));
  return made;
}

describe('the operators', function () {
  this.timeout(120_000);
  const packed = packedWeights();
  const storage = new TorchObject(native.storageOf(tensor.handle));

  const plain: Record<string, unknown> = {
    Tensor: tensor,
    int: 1,
    SymInt: 2,
    bool: true,
    float: 0.5,
    Scalar: 0.5,
    str: 'text',
    ScalarType: 'float32',
    Layout: 'strided',
    Device: 'cpu',
    MemoryFormat: 'contiguous_format',
    Generator: defaultGenerator(),
    Storage: storage,
    Any: 'sum',
    Stream: Stream.default('cpu'),
  };

  /** A value of a type of LibTorch; undefined where there is none. */
  function valueOf(type: string): unknown {
    if (type.endsWith('?')) return valueOf(type.slice(0, -1));
    const list = /^(.*)\[(\d*)\]$/.exec(type);
    if (list) {
      const [, element, count] = list;
      if (element === 'Scalar?') return [1, null, 0.5];
      const item = valueOf(element!);
      if (item === undefined) return undefined;
      const items = Array.from({ length: Number(count) || 2 }, () => item);
      if (element === 'Tensor?') items[0] = null;
      return items;
    }
    return plain[type] ?? packed.get(type);
  }

  function resolve(schema: Schema, given: readonly unknown[], options: Record<string, unknown>): string {
    const { namespace, name, overload } = schema;
    return resolveOverload(native.operator(`${namespace}::${name}.${overload}`), [...given, options]);
  }

  const schemas = operatorSchemas();

  it('can all be called: every argument of every schema converts, or the reason is known', () => {
    let checked = 0;
    let left = 0;
    for (const text of schemas) {
      if (reasonForNotCalling(text) !== undefined) {
        left++;
        continue;
      }
      const schema = parseSchema(text);
      const values = schema.arguments.map(({ type }) => valueOf(type));
      const missing = schema.arguments.filter((_, i) => values[i] === undefined);
      assert.deepEqual(missing, [], `${text}: no value for an argument`);
      const given: unknown[] = [];
      const options: Record<string, unknown> = {};
      const nulls: unknown[] = [];
      const nullOptions: Record<string, unknown> = {};
      schema.arguments.forEach(({ keywordOnly, name, type }, i) => {
        const nothing = type.endsWith('?') ? null : values[i];
        if (keywordOnly) {
          options[name] = values[i];
          nullOptions[name] = nothing;
        } else {
          given.push(values[i]);
          nulls.push(nothing);
        }
      });
      assert.equal(resolve(schema, given, options), text);
      assert.equal(resolve(schema, nulls, nullOptions), text);
      checked++;
    }
    assert.equal(checked + left, schemas.length);
    assert.ok(left <= 40, `${String(left)} of ${String(schemas.length)} cannot be called`);
  });

  it('are chosen among their overloads by what is given, also in a call that names no overload', () => {
    const add = (...given: unknown[]): string => resolveOverload(native.operator('aten::add'), given);
    assert.match(add(tensor, tensor), /^aten::add\.Tensor\(/);
    assert.match(add(tensor, 1), /^aten::add\.Scalar\(/);
    assert.match(add(scalar, tensor, { alpha: 2, out: tensor }), /^aten::add\.out\(/);
  });

  it('take and give objects of LibTorch: a weight is packed, used and unpacked', () => {
    const { quantized: q } = ops;
    const weight = torch.quantizePerTensor(torch.tensor([[1, -1]]), 0.5, 0, 'qint8');
    const packedWeight = q!.linear_prepack!(weight, torch.tensor([0.5])) as TorchObject;
    assert.match(packedWeight.type, /LinearPackedParamsBase/);
    const x = torch.quantizePerTensor(torch.tensor([[3, 1]]), 0.5, 10, 'quint8');
    const y = q!.linear!(x, packedWeight, 0.5, 10) as Tensor;
    assert.deepEqual(y.dequantize().toArraySync(), [[2.5]]);
    const [unpacked, bias] = q!.linear_unpack!(packedWeight) as [Tensor, Tensor];
    assert.deepEqual(unpacked.dequantize().toArraySync(), [[1, -1]]);
    assert.deepEqual(bias.toArraySync(), [0.5]);
    const conv = q!.conv2d_prepack!(
      torch.quantizePerTensor(torch.ones([1, 1, 1, 1]), 1, 0, 'qint8'),
      null,
      [1, 1],
      [0, 0],
      [1, 1],
      1,
    );
    assert.throws(() => q!.linear!(x, conv, 0.5, 10), /Conv2dPackedParamsBase is no .*LinearPackedParamsBase/);
    assert.throws(() => q!.linear!(x, {}, 0.5, 10), /no overload fits|no argument/);
  });

  it('take nested lists, and lists of numbers and nulls', () => {
    assert.equal(ops._test!.get_first!([['a', 'b'], ['c']]), 'a');
    assert.throws(() => ops._test!.get_first!([['a'], [1]]), /is no str/);
    assert.throws(() => ops._test!.get_first!([[]]), /./);
  });

  it('give dtypes by name, and take storages', () => {
    assert.equal(ops.aten!.promote_types!('int32', 'float16'), 'float16');
    assert.equal(torch.resultType(torch.ones([1], { dtype: 'int8' }), 0.5), 'float32');
    const target = torch.zeros([1]);
    ops.aten!.set_!.source_Storage_storage_offset!(target, storage, 0, [4], [1]);
    assert.deepEqual(target.toArraySync(), [1, 1, 1, 1]);
    tensor.mul_(2);
    assert.deepEqual(target.toArraySync(), [2, 2, 2, 2]);
    tensor.div_(2);
  });
});
