import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  autocast,
  cuda,
  DisposedError,
  inferenceMode,
  InvalidArgumentError,
  isTensor,
  KontrastError,
  memory,
  noGrad,
  scope,
  ScriptModule,
  torch,
  TorchError,
  TorchTypeError,
  type NestedArray,
  type ScriptArgument,
  type ScriptResult,
  type Tensor,
} from '../../src/torch';
import { assertClose } from '../support/close';
import { code, moduleWith, pickle, readEntries, storage, writeEntries } from '../support/script-archive';

const root = join(__dirname, '..', '..');
const files = join(root, 'test', 'golden', 'script');
const fileOf = (name: string): string => join(files, `${name}.pt`);
const load = (name: string): ScriptModule => ScriptModule.loadSync(fileOf(name));

interface Expected {
  encoder: Record<
    'input' | 'training' | 'evaluation' | 'normalised' | 'steps' | 'encoded' | 'running_mean' | 'bias_gradient',
    NestedArray
  > & { parameters: Record<string, number[]>; buffers: Record<string, number[]> };
  traced: Record<'input' | 'maps' | 'features', NestedArray>;
}
const expected = JSON.parse(readFileSync(join(files, 'expected.json'), 'utf8')) as Expected;

const shapes = (tensors: Map<string, Tensor>): Record<string, readonly number[]> =>
  Object.fromEntries([...tensors].map(([name, tensor]) => [name, tensor.shape]));

describe('ScriptModule', () => {
  describe('computes what PyTorch computes', () => {
    const { encoder, traced } = expected;

    it('with a scripted module: submodules, buffers, control flow, defaults, modes, methods', () => {
      scope(() => {
        const module = load('encoder');
        const x = torch.tensor(encoder.input);
        assert.equal(module.eval(), module);
        assertClose(module.forward(x), torch.tensor(encoder.evaluation));
        assertClose(module.forward(x, true), torch.tensor(encoder.normalised));
        assertClose(module.forward(x, undefined, 3), torch.tensor(encoder.steps));
        assertClose(module.run('encode', x), torch.tensor(encoder.encoded));
        assertClose(module.train().forward(x), torch.tensor(encoder.training));
        assertClose(module.buffers().get('norm.running_mean')!, torch.tensor(encoder.running_mean));
        module.dispose();
      });
    });

    it('with a traced module', () => {
      scope(() => {
        using module = load('traced');
        const [maps, named] = module.forward<[Tensor, Map<string, Tensor>]>(torch.tensor(traced.input));
        assertClose(maps, torch.tensor(traced.maps));
        assert.deepEqual([...named.keys()], ['features', 'input']);
        assertClose(named.get('features')!, torch.tensor(traced.features));
      });
    });

    it('on another thread', async () => {
      await scope(async () => {
        const module = (await ScriptModule.load(fileOf('encoder'), { device: 'cpu' })).eval();
        const x = torch.tensor(encoder.input);
        assertClose(await module.forwardAsync(x), torch.tensor(encoder.evaluation));
        assertClose(await module.runAsync('encode', x), torch.tensor(encoder.encoded));
        module.dispose();
      });
    });

    it('and its gradients flow to the parameters', async () => {
      await scope(async () => {
        using module = load('encoder').eval();
        const x = torch.tensor(encoder.input);
        const bias = module.parameters().get('head.linear.bias')!;
        module.forward(x).sum().backward();
        assertClose(bias.grad!, torch.tensor(encoder.bias_gradient));
        (await module.forwardAsync(x)).sum().backward();
        assertClose(bias.grad!.div(2), torch.tensor(encoder.bias_gradient));
      });
    });
  });

  it('gives its own parameters and buffers by name', () => {
    scope(() => {
      using module = load('encoder');
      assert.deepEqual(shapes(module.parameters()), expected.encoder.parameters);
      assert.deepEqual(shapes(module.buffers()), expected.encoder.buffers);
      const before = module.eval().run('encode', torch.ones([1, 3]));
      noGrad(() => module.parameters().get('body.weight')!.zero_());
      assert.ok(
        module
          .run('encode', torch.ones([1, 3]))
          .sub(before)
          .abs()
          .max()
          .itemSync() > 0.01,
      );
    });
  });

  it('moves its tensors in place', () => {
    scope(() => {
      using module = load('encoder');
      const weight = module.parameters().get('body.weight')!;
      assert.equal(module.to('cpu'), module);
      assert.ok(weight.isSame(module.parameters().get('body.weight')!));
      using onMeta = ScriptModule.loadSync(fileOf('encoder'), { device: 'meta' });
      assert.equal(onMeta.parameters().get('body.weight')!.device, 'meta');
    });
  });

  it('names its methods', () => {
    using module = load('encoder');
    const methods = module.methods();
    assert.match(methods.get('forward')!, /^forward\(.* Tensor x, bool normalise=False, int steps=1\) -> Tensor$/);
    assert.match(methods.get('encode')!, /^encode\(/);
  });

  describe('takes and gives', () => {
    let module: ScriptModule;
    before(() => (module = load('values')));
    after(() => {
      module.dispose();
    });

    /** Tensors as their elements, so that results can be compared. */
    const plain = (value: ScriptResult): unknown => {
      if (isTensor(value)) return { tensor: value.toArraySync() };
      if (Array.isArray(value)) return value.map(plain);
      if (value instanceof Map) return new Map([...value].map(([key, item]) => [plain(key), plain(item)]));
      if (typeof value === 'object' && value !== null && !('re' in value)) {
        return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item as ScriptResult)]));
      }
      return value;
    };
    const tensor = (elements: NestedArray): Tensor => torch.tensor(elements);
    const cases: [what: string, method: string, given: () => ScriptArgument[], result: unknown][] = [
      ['nothing', 'forward', () => [tensor([1])], null],
      ['an int', 'integer', () => [7], 7],
      ['a negative int', 'integer', () => [-7], -7],
      ['an int beyond the exact numbers', 'integer', () => [2n ** 62n], 2n ** 62n],
      ['an int that is a bigint without need', 'integer', () => [5n], 5],
      ['a float', 'number', () => [2.5], 1.25],
      ['a float that is whole', 'number', () => [3], 1.5],
      ['infinity', 'number', () => [-Infinity], -Infinity],
      ['a bool', 'boolean', () => [true], false],
      ['a text', 'string', () => ['grüß\0dich 🌍'], 'grüß\0dich 🌍!'],
      ['a complex number', 'complexNumber', () => [{ re: 1, im: 2 }], { re: -2, im: 1 }],
      ['a number as a complex one', 'complexNumber', () => [2], { re: 0, im: 2 }],
      ['a device', 'device', () => ['cuda:1'], 'cuda:1'],
      ['a member of an enumeration', 'colour', () => ['RED'], 'BLUE'],
      ['None', 'optional', () => [null], null],
      ['defaults', 'optional', () => [], null],
      ['undefined as a default', 'optional', () => [tensor([2]), undefined], { tensor: [2] }],
      ['an optional tensor', 'optional', () => [tensor([2]), 1.5], { tensor: [3] }],
      ['a list of ints', 'integers', () => [[4, 5n]], [4, 5, 2]],
      ['an empty list', 'integers', () => [[]], [0]],
      ['a typed array', 'integers', () => [new Int32Array([4, 5])], [4, 5, 2]],
      ['a typed array of bigints', 'integers', () => [new BigInt64Array([4n])], [4, 1]],
      ['a list of floats', 'numbers', () => [[1, 0.25]], [2, 0.5]],
      ['lists in a list', 'nested', () => [[['a', 'b'], []]], [['b', 'a'], []]],
      ['a list of tensors', 'tensors', () => [[tensor([1]), tensor([2])]], [{ tensor: [2] }, { tensor: [3] }]],
      ['a list with gaps', 'optionals', () => [[tensor([1]), null, undefined]], [false, true, true]],
      ['an object as a dictionary', 'byName', () => [{ a: tensor([1]) }], new Map([['a', { tensor: [10] }]])],
      ['a map', 'byName', () => [new Map([['__proto__', tensor([1])]])], new Map([['__proto__', { tensor: [10] }]])],
      ['a map of numbers', 'byNumber', () => [new Map([[3, [1, 2]]])], new Map([[3, 3]])],
      ['tuples', 'pair', () => [[tensor([1]), 4]], [5, { tensor: [1] }, ['in', true]]],
      ['a named tuple', 'named', () => [{ count: 2, value: tensor([3]) }], { value: { tensor: [6] }, count: 3 }],
      ['a named tuple as a list', 'named', () => [[tensor([3]), 2]], { value: { tensor: [6] }, count: 3 }],
      ['an int of a union', 'either', () => [1], 'int'],
      ['a float of a union', 'either', () => [1.5], 'float'],
      ['a text of a union', 'either', () => ['1'], 'str'],
      ['a tensor of a union', 'either', () => [tensor([1])], 'Tensor'],
      [
        'anything',
        'anything',
        () => [[1, 'a', null, [true, { x: tensor([1]) }]]],
        [1, 'a', null, [true, new Map([['x', { tensor: [1] }]])]],
      ],
      ['a number as anything', 'anything', () => [1.5], 1.5],
      ['a typed list as anything', 'kindOf', () => [[1, 2]], 'List[int]'],
      ['numbers as anything', 'anything', () => [[1, 2.5]], [1, 2.5]],
      ['a dictionary as anything', 'kindOf', () => [{ x: tensor([1]) }], 'Dict[str, Tensor]'],
      ['a mixed list as anything', 'kindOf', () => [[1, 'a']], 'something else'],
      ['the result of a fork', 'future', () => [tensor([1])], { tensor: [-1] }],
    ];
    for (const [what, method, given, result] of cases) {
      it(what, async () => {
        await scope(async () => {
          assert.deepEqual(plain(module.run<ScriptResult>(method, ...given())), result);
          assert.deepEqual(plain(await module.runAsync<ScriptResult>(method, ...given())), result);
        });
      });
    }

    it('and refuses what the schema does not take, by the name of the argument', async () => {
      const refused: [method: string, given: unknown[], message: RegExp][] = [
        ['forward', [[1]], /^forward: argument 'x' takes Tensor, not a list$/],
        ['forward', [], /^forward: argument 'x' is missing: Tensor$/],
        ['forward', [undefined], /^forward: argument 'x' is missing: Tensor$/],
        ['forward', [torch.ones([1]), 2], /^forward: 2 arguments are given, and it takes 1$/],
        ['integer', [1.5], /^integer: argument 'value' takes int, not 1\.5$/],
        ['integer', [true], /'value' takes int, not true$/],
        ['integer', [2n ** 63n], /'value' takes int, not a bigint beyond 64 bits$/],
        ['integer', [null], /'value' takes int, not null$/],
        ['integer', [NaN], /'value' takes int, not nan$/],
        ['number', [1n], /'value' takes float, not a bigint$/],
        ['boolean', [1], /'value' takes bool, not 1$/],
        ['string', [torch.ones([1])], /'value' takes str, not a tensor$/],
        ['complexNumber', ['i'], /'value' takes complex, not a string$/],
        ['colour', ['GREEN'], /'value' takes one of 'RED', 'BLUE', not 'GREEN'$/],
        ['optional', [null, 'x'], /'scale' takes float, not a string$/],
        ['integers', [[1, 'x']], /'values', item 1 takes int, not a string$/],
        ['nested', [[['a'], [1]]], /'values', item 1, item 0 takes str, not 1$/],
        ['tensors', [torch.ones([2])], /'values' takes List\[Tensor\], not a tensor$/],
        ['byName', [[1]], /'values' takes Dict\[str, Tensor\], not a list$/],
        ['byName', [{ a: 1 }], /'values', the value of 'a' takes Tensor, not 1$/],
        ['byName', [new Map([[1, 1]])], /'values', a key takes str, not 1$/],
        ['byNumber', [new Map([[1, [1, '2']]])], /'values', the value of 1, item 1 takes float, not a string$/],
        ['pair', [[torch.ones([1])]], /'value' takes Tuple\[Tensor, int\] of 2 items, not a list of 1$/],
        ['pair', [{ a: 1 }], /'value' takes Tuple\[Tensor, int\], not an object$/],
        ['named', [{ value: torch.ones([1]) }], /'value' takes Pair, not an object without 'count'$/],
        ['named', [{ value: torch.ones([1]), count: 1, x: 1 }], /'value' takes Pair, not an object with 'x'$/],
        ['either', [null], /'value' takes Union\[.*\], not null$/],
        ['anything', [new Map<unknown, unknown>([[1, 1], ['a', 1]])], /a dictionary whose keys are of one type/], // prettier-ignore
        ['anything', [() => 1], /a function is no argument/],
        ['anything', [new Date(0)], /1970.* is no argument/],
      ];
      for (const [method, given, message] of refused) {
        const matches = (error: unknown): boolean => {
          assert.ok(error instanceof TorchTypeError, String(error));
          assert.match(error.message, message);
          return true;
        };
        assert.throws(() => module.run(method, ...(given as ScriptArgument[])), matches, method);
        await assert.rejects(module.runAsync(method, ...(given as ScriptArgument[])), matches, method);
      }
      const circle: unknown[] = [];
      circle.push(circle);
      assert.throws(() => module.run('anything', circle as ScriptArgument), InvalidArgumentError);
      const gone = torch.ones([1]);
      gone.dispose();
      assert.throws(() => module.forward(gone), DisposedError);
      assert.throws(() => module.run('tensors', [gone]), DisposedError);
    });

    it('and leaves no tensor behind when a result cannot be given', async () => {
      const before = memory().liveTensors;
      const message = /^circle: a result is nested too deeply/;
      // Once a module: LibTorch itself does not survive optimising such a program, as it does at the second call.
      using first = load('values');
      assert.throws(() => first.run('circle'), { name: 'TorchTypeError', message });
      using second = load('values');
      await assert.rejects(second.runAsync('circle'), { name: 'TorchTypeError', message });
      assert.equal(memory().liveTensors, before);
    });

    it('and says which methods there are', () => {
      assert.throws(() => module.run('foward'), {
        name: 'InvalidArgumentError',
        message: /^the module has no method 'foward'; it has forward, /,
      });
    });
  });

  describe('in the background', () => {
    it('leaves the event loop free', async () => {
      await scope(async () => {
        using module = load('stateful');
        let isDone = false;
        let turns = 0;
        const result = module.runAsync('spin', torch.zeros([200, 200]), 200).then(() => (isDone = true));
        while (!isDone) {
          turns++;
          await new Promise((resolve) => setImmediate(resolve));
        }
        await result;
        assert.ok(turns > 10, `the loop turned ${turns} times`);
      });
    });

    it('carries grad mode, inference mode and autocast of the call', async () => {
      await scope(async () => {
        using module = load('stateful');
        const x = torch.ones([2, 2], { requiresGrad: true });
        const modes = (): Promise<[Tensor, boolean]> => module.runAsync<[Tensor, boolean]>('modes', x);
        const [, recorded] = await modes();
        assert.equal(recorded, true);
        const [, unrecorded] = await noGrad(() => ({ pending: modes() })).pending;
        assert.equal(unrecorded, false);
        const [inferred] = await inferenceMode(() => ({ pending: modes() })).pending;
        assert.throws(() => inferred.requiresGrad_(), TorchError);
        const [low] = await autocast({}, () => ({ pending: modes() })).pending;
        assert.equal(low.dtype, 'bfloat16');
        const [full] = await modes();
        assert.equal(full.dtype, 'float32');
      });
    });

    it('leaves no weights to autocast that were cast in the background', async () => {
      await scope(async () => {
        using module = load('stateful');
        const x = torch.ones([1, 2, 4], { requiresGrad: true });
        const attend = (): Promise<Tensor> => autocast({}, () => ({ pending: module.runAsync('attend', x) })).pending;
        assert.equal((await attend()).max().itemSync(), 1);
        noGrad(() => x.mul_(3));
        const [here] = autocast({}, () => [torch.scaledDotProductAttention(x, x, x)] as const);
        assert.equal(here.dtype, 'bfloat16');
        assert.equal(here.max().itemSync(), 3);
        assert.equal((await attend()).max().itemSync(), 3);
      });
    });

    it('runs the calls of a module one after the other', async () => {
      await scope(async () => {
        using module = load('stateful');
        const zero = torch.tensor(0);
        const results = await Promise.all(Array.from({ length: 20 }, () => module.forwardAsync(zero)));
        assert.deepEqual(
          results.map((result) => result.itemSync()),
          Array.from({ length: 20 }, (_, i) => i + 1),
        );
        const pending = module.forwardAsync(zero);
        assert.equal(module.forward(zero).itemSync() + (await pending).itemSync(), 43);
        assert.equal(module.run<number[]>('history').length, 22);
      });
    });

    it('goes on after a call that fails', async () => {
      await scope(async () => {
        using module = load('stateful');
        const calls = [1, -1, 2].map((value) => module.runAsync<number>('refuse', value));
        assert.deepEqual(
          (await Promise.allSettled(calls)).map(({ status }) => status),
          ['fulfilled', 'rejected', 'fulfilled'],
        );
      });
    });

    it('keeps arguments and module alive', async () => {
      const module = load('stateful');
      const pending = scope(() => {
        const x = torch.ones([50, 50]);
        return { result: [module.runAsync('spin', x, 20), module.forwardAsync(x)] };
      }).result;
      module.dispose();
      const results = await Promise.all(pending);
      assert.equal(results[1]!.max().itemSync(), 2);
      for (const result of results) result.dispose();
    });

    it('may be going on when a worker ends', function () {
      this.timeout(120_000);
      const program = `
        const { Worker } = require('node:worker_threads');
        (async () => {
          for (const delay of [0, 3, 20]) {
            const worker = new Worker(${JSON.stringify(`
              require('ts-node/register/transpile-only');
              const { ScriptModule, torch } = require(${JSON.stringify(join(root, 'src', 'torch'))});
              const file = ${JSON.stringify(fileOf('stateful'))};
              const module = ScriptModule.loadSync(file);
              const x = torch.zeros([100, 100]);
              require('node:worker_threads').parentPort.postMessage('ready');
              const again = () => ScriptModule.load(file).then(again);
              again();
              for (let i = 0; i < 100; i++) {
                module.runAsync('spin', x, 20);
                module.runAsync('refuse', -1).catch(() => undefined);
              }
            `)}, { eval: true });
            worker.on('error', (error) => { console.error(error); process.exit(1); });
            await new Promise((resolve) => worker.once('message', resolve));
            await new Promise((resolve) => setTimeout(resolve, delay));
            await worker.terminate();
          }
          const { torch } = require('./src/torch');
          console.log(torch.ones([3]).sum().itemSync());
        })();
      `;
      const child = spawnSync(process.execPath, ['-r', 'ts-node/register/transpile-only', '-e', program], {
        cwd: root,
        encoding: 'utf8',
        timeout: 110_000,
      });
      assert.equal(child.signal, null, child.stderr);
      assert.equal(child.stdout.trim(), '3', child.stderr);
    });
  });

  describe('frees', () => {
    it('results with the scope that was open at the call', async () => {
      using module = load('values');
      const x = torch.ones([2]);
      const before = memory().liveTensors;
      scope(() => {
        module.run('tensors', [x, x]);
        module.run('byName', { a: x });
      });
      assert.equal(memory().liveTensors, before);
      await scope(async () => {
        await module.runAsync('tensors', [x, x]);
        assert.equal(memory().liveTensors, before + 2);
      });
      assert.equal(memory().liveTensors, before);
      const kept = await scope(async () => module.runAsync<Tensor[]>('tensors', [x]));
      assert.equal(kept[0]!.sum().itemSync(), 4);
      kept[0]!.dispose();
      x.dispose();
    });

    it('results of a call that outlives its scope with the scope around it', async () => {
      using module = load('values');
      const x = torch.ones([2]);
      const before = memory().liveTensors;
      await scope(async () => {
        const { pending } = scope(() => ({ pending: module.runAsync<Tensor[]>('tensors', [x]) }));
        const [result] = await pending;
        assert.equal(result!.sum().itemSync(), 4);
      });
      assert.equal(memory().liveTensors, before);
      x.dispose();
    });

    it('a module when it is disposed', async () => {
      const module = load('encoder');
      const weight = module.parameters().get('body.weight')!;
      assert.equal(module.isDisposed, false);
      module.dispose();
      module.dispose();
      assert.equal(module.isDisposed, true);
      const gone = { name: 'DisposedError', message: 'this TorchScript module was disposed' };
      assert.throws(() => module.forward(weight), gone);
      await assert.rejects(module.forwardAsync(weight), gone);
      assert.throws(() => module.parameters(), gone);
      assert.throws(() => module.eval(), gone);
      assert.throws(() => module.to('cpu'), gone);
      assert.throws(() => module.methods(), gone);
      assert.deepEqual(weight.shape, [4, 3]);
      weight.dispose();
    });

    it('a module that nobody holds', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'kontrast-script-'));
      const file = join(folder, 'large.pt');
      const count = 1 << 20;
      writeFileSync(
        file,
        writeEntries(moduleWith(storage(count), 0, [count], [1], { record: Buffer.alloc(4 * count) })),
      );
      // In a process of its own, whose garbage collector is this test's alone.
      const program = `
        const { ScriptModule } = require('./src/torch');
        (async () => {
          let start = 0;
          for (let round = 0; round < 10; round++) {
            for (let i = 0; i < 10; i++) ScriptModule.loadSync(process.argv[1]);
            for (let i = 0; i < 3; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)); }
            if (round === 0) start = process.memoryUsage.rss();
          }
          console.log(process.memoryUsage.rss() - start < 150e6);
        })();
      `;
      const child = spawnSync(
        process.execPath,
        ['--expose-gc', '-r', 'ts-node/register/transpile-only', '-e', program, file],
        { cwd: root, encoding: 'utf8' },
      );
      rmSync(folder, { recursive: true });
      assert.equal(child.stdout.trim(), 'true', child.stderr);
    });
  });

  describe('says what went wrong', () => {
    it('in an operator, and where in the source', async () => {
      await scope(async () => {
        using module = load('stateful');
        const x = torch.ones([2, 3]);
        const matches = (error: unknown): boolean => {
          assert.ok(error instanceof TorchError);
          assert.equal(error.code, 'TORCH');
          const lines = error.message.split('\n');
          assert.equal(lines[0], 'product: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)');
          assert.equal(lines[1], 'Traceback of TorchScript (most recent call last):');
          assert.match(
            lines[2]!,
            /^ {2}File "make_script_modules.py", line \d+, in product: return self.inner\(a, b\)$/,
          );
          assert.match(lines[3]!, /^ {2}File .*, in inner: return torch.matmul\(scaled, b\)$/);
          assert.equal(lines.length, 4);
          return true;
        };
        assert.throws(() => module.run('product', x, x), matches);
        await assert.rejects(module.runAsync('product', x, x), matches);
      });
    });

    it('in a file without its source', () => {
      scope(() => {
        using module = load('traced');
        assert.throws(() => module.forward(torch.ones([2, 3])), {
          name: 'TorchError',
          message:
            /^forward: Expected 4-dim.*\nTraceback of TorchScript \(most recent call last\):\n {2}File "code\/.*, in forward: /,
        });
      });
    });

    it('by the saved source where what was written cannot be used', () => {
      const folder = mkdtempSync(join(tmpdir(), 'kontrast-script-'));
      const file = join(folder, 'x.pt');
      const sound = readEntries(readFileSync(fileOf('stateful')));
      const texts = Buffer.from('FORMAT_WITH_STRING_TABLE');
      const damages: ((content: Buffer) => Buffer)[] = [
        (content) => content.subarray(0, -1),
        (content) => Buffer.from(content).fill('X', content.indexOf(texts), content.indexOf(texts) + 1),
        // The index of a source's file name, beyond the table of texts.
        (content) =>
          Buffer.from(content).fill(0xff, content.lastIndexOf('RK\x05M') + 2, content.lastIndexOf('RK\x05M') + 3),
      ];
      for (const damage of damages) {
        writeFileSync(
          file,
          writeEntries(
            sound.map(({ name, content }) => ({
              name,
              content: name.endsWith('.debug_pkl') ? damage(content) : content,
            })),
          ),
        );
        using module = ScriptModule.loadSync(file);
        scope(() => {
          assert.throws(() => module.run('product', torch.ones([2, 3]), torch.ones([2, 3])), {
            message:
              /^product: mat1.*\n.*\n {2}File "code\/__torch__.py", line \d+, in product: .*\n {2}File "code.*, in inner/,
          });
        });
      }
      rmSync(folder, { recursive: true });
    });

    it('when the program raises', () => {
      using module = load('stateful');
      assert.throws(() => module.run('refuse', -4), {
        name: 'TorchError',
        code: 'SCRIPT_EXCEPTION',
        message: /^refuse: ValueError: value must not be negative, found -4\nTraceback/,
      });
      assert.throws(() => module.run('check', 3), {
        code: 'SCRIPT_EXCEPTION',
        message: /^check: AssertionError: three is not allowed\nTraceback/,
      });
    });

    it('by warnings, also from another thread', async () => {
      const warnings: string[] = [];
      const listen = (warning: Error): void => void warnings.push(warning.message);
      process.on('warning', listen);
      await scope(async () => {
        using module = load('stateful');
        await module.runAsync('warn', torch.ones([2]));
      });
      await new Promise((resolve) => setImmediate(resolve));
      process.off('warning', listen);
      assert.equal(warnings.filter((message) => message.includes('resized')).length, 1);
    });

    it('with what is no path, device or mode', async () => {
      using module = load('values');
      assert.throws(() => ScriptModule.loadSync(''), InvalidArgumentError);
      assert.throws(() => ScriptModule.loadSync('a\0b'), InvalidArgumentError);
      await assert.rejects(ScriptModule.load(1 as never), InvalidArgumentError);
      assert.throws(() => ScriptModule.loadSync(fileOf('values'), { device: 1 as never }), InvalidArgumentError);
      assert.throws(() => module.to(1 as never), InvalidArgumentError);
      assert.throws(() => module.to('nowhere' as never), KontrastError);
      assert.throws(() => module.train(1 as never), InvalidArgumentError);
    });
  });

  describe('refuses a file', () => {
    let folder: string;
    let file: string;
    before(() => {
      folder = mkdtempSync(join(tmpdir(), 'kontrast-script-'));
      file = join(folder, 'x.pt');
    });
    after(() => {
      rmSync(folder, { recursive: true });
    });

    const refuses = async (path: string, message: RegExp): Promise<void> => {
      const matches = (error: unknown): boolean => {
        assert.ok(error instanceof TorchError, String(error));
        assert.equal(error.code, 'SCRIPT_FILE');
        assert.ok(error.message.startsWith(`cannot load '${path}' as a TorchScript module: `), error.message);
        assert.match(error.message, message);
        assert.ok(error.message.length < 2200);
        return true;
      };
      assert.throws(() => ScriptModule.loadSync(path), matches);
      await assert.rejects(ScriptModule.load(path), matches);
    };

    it('that is not there, a folder, empty, or something else', async () => {
      await refuses(join(folder, 'none.pt'), /No such file/);
      await refuses(folder, /failed/);
      writeFileSync(file, '');
      await refuses(file, /not a ZIP archive/);
      await refuses(join(root, 'package.json'), /zip archive/);
    });

    it('that is cut off', async () => {
      const bytes = readFileSync(fileOf('encoder'));
      for (const length of [1, 100, bytes.length / 2, bytes.length - 1]) {
        writeFileSync(file, bytes.subarray(0, length));
        await refuses(file, /zip archive/i);
      }
    });

    it('on a device that is not here, and names the option', async function () {
      if (cuda.isAvailable()) this.skip();
      const entries = moduleWith(storage(4, 'cuda:0'), 0, [2, 2], [2, 1]);
      writeFileSync(file, writeEntries(entries));
      await refuses(file, /the device cuda:0 is not available here.*load it with { device: 'cpu' }/);
      assert.throws(() => ScriptModule.loadSync(file, { device: 'cuda' }), InvalidArgumentError);
      using module = ScriptModule.loadSync(file, { device: 'cpu' });
      assert.equal(
        scope(() => module.parameters().get('w')!.sum().itemSync()),
        10,
      );
    });

    const write = (...given: Parameters<typeof moduleWith>): void => {
      writeFileSync(file, writeEntries(moduleWith(...given)));
    };

    it('but not one that is sound', () => {
      scope(() => {
        for (const [sizes, strides, sum] of [
          [[2, 2], [2, 1], 10],
          [[2], [3], 5],
          [[3, 2], [0, 1], 9],
          [[0, 5], [9, 9], 0],
          [[], [], 1],
        ] as const) {
          write(storage(4), 0, [...sizes], [...strides]);
          using module = ScriptModule.loadSync(file);
          assert.equal(module.parameters().get('w')!.sum().itemSync(), sum);
        }
      });
    });

    it('whose tensors leave their storage', async () => {
      for (const [offset, sizes, strides] of [
        [1, [2, 2], [2, 1]],
        [0, [2, 2], [4, 1]],
        [0, [5], [1]],
        [0, [2 ** 40], [2 ** 40]],
        [Number.MAX_SAFE_INTEGER, [2], [1]],
      ] as const) {
        write(storage(4), offset, [...sizes], [...strides]);
        await refuses(file, /its entry data\.pkl is damaged: a tensor is larger than its storage$/);
      }
      for (const [offset, sizes, strides] of [
        [-1, [1], [1]],
        [0, [-1], [1]],
        [0, [2], [-1]],
        [0, [2, 2], [1]],
      ] as const) {
        write(storage(4), offset, [...sizes], [...strides]);
        await refuses(file, /a tensor is not described as usual$/);
      }
    });

    it('whose storages leave their entries', async () => {
      write(storage(5), 0, [5], [1]);
      await refuses(file, /the entry data\/0 has 16 bytes, and a tensor needs 20$/);
      write(storage(4, 'cpu', '1'), 0, [2, 2], [2, 1]);
      await refuses(file, /the entry data\/1, which it refers to, is missing$/);
      write(storage(-1), 0, [1], [1]);
      await refuses(file, /a storage has an impossible size$/);
    });

    it('whose pickles are no sound programs', async () => {
      const sound = [storage(4), 0, [2, 2], [2, 1]] as const;
      for (const [constants, message] of [
        [code('}(Nu)'), /a key without a value$/],
        [code('\x85'), /takes more objects than it has$/],
        [code('(t0'), /an instruction that no TorchScript file has$/],
        [code(')q\x05'), /numbers its objects with gaps$/],
        [code('h\x05'), /refers to an object that it does not have$/],
        [code('))'), /does not hold one object$/],
        [code('K\x07)R'), /calls something that is no function$/],
        [code('X\xff\xff\xff\xffa'), /ends too early$/],
        [code('u'), /takes more objects than it has$/],
        [code(`)${'\x85'.repeat(100_000)}`), /nested too deeply$/],
      ] as const) {
        const [store, offset, sizes, strides] = sound;
        write(store, offset, [...sizes], [...strides], { constants });
        await refuses(file, new RegExp(`its entry constants\\.pkl is damaged: .*${message.source}`));
      }
    });

    it('that lacks an entry', async () => {
      const sound = moduleWith(storage(4), 0, [2, 2], [2, 1]);
      for (const missing of ['data.pkl', 'constants.pkl', 'data/0', 'code/__torch__.py', 'version']) {
        writeFileSync(file, writeEntries(sound.filter(({ name }) => name !== `m/${missing}`)));
        await refuses(file, missing === 'code/__torch__.py' ? /./ : new RegExp(missing));
      }
      writeFileSync(file, writeEntries([{ name: 'm/data.pkl', content: pickle(code('}')) }, sound.at(-1)!]));
      await refuses(file, /it was not written by torch\.jit\.save, or is damaged$/);
    });

    for (const [name, count] of [
      ['encoder', 250],
      ['traced', 150],
      ['stateful', 150],
    ] as const) {
      it(`or loads it, with ${name}.pt damaged in ${count} ways`, function () {
        this.timeout(120_000);
        // A process of its own: what ends it inside LibTorch is seen as such, with the number of the damage.
        const child = spawnSync(
          process.execPath,
          ['-r', 'ts-node/register/transpile-only', 'test/support/script-fuzz.ts', fileOf(name), '1', '0', `${count}`],
          { cwd: root, encoding: 'utf8', timeout: 110_000 },
        );
        const lines = child.stdout.trimEnd().split('\n');
        assert.equal(child.signal ?? child.status, 0, `${lines.at(-1)} ${child.stderr}`);
        assert.equal(lines.length, count);
        for (const line of lines) {
          assert.match(line, /^\d+ (loaded|\w+Error [A-Z_]+)$/);
        }
        assert.ok(lines.filter((line) => line.endsWith('SCRIPT_FILE')).length > count / 4);
        assert.ok(lines.filter((line) => line.endsWith('loaded')).length > count / 10);
      });
    }
  });
});
