import assert from 'node:assert/strict';
import { openSource } from '../../src/torch/byte-source';
import {
  PickleDamage,
  PickleFunction,
  PickleInput,
  PickleObject,
  PickleTuple,
  unpickle,
  type PickleHost,
  type PickleValue,
} from '../../src/torch/pickle';
import { bytes, little } from '../support/bytes';

class Marked extends PickleObject {
  state: PickleValue = null;

  override setState(state: PickleValue): void {
    this.state = state;
  }
}

const marked = new Marked();
const host: PickleHost = {
  globals: new Map<string, PickleValue>([
    ['m.double', new PickleFunction('m.double', ([value]) => 2 * (value as number))],
    ['m.list', new PickleFunction('m.list', (args) => [...args])],
    ['m.object', marked],
  ]),
  persistent: (id) => ['kept', id],
};

function read(...parts: readonly (number | string | Uint8Array)[]): PickleValue {
  return unpickle(new PickleInput(openSource(bytes(...parts))), host);
}

describe('unpickle', () => {
  const values: Record<string, [parts: (number | string | Uint8Array)[], value: PickleValue]> = {
    None: [['N'], null],
    'true and false': [[0x88, 0x89, 0x86], new PickleTuple([true, false])],
    'a byte': [['K', 200], 200],
    'two bytes': [['M', 0x34, 0x12], 0x1234],
    'four bytes': [['J', little(-7, 4)], -7],
    'a short integer': [[0x8a, 1, 0xff], -1],
    'an integer of no bytes': [[0x8a, 0], 0],
    'the largest number': [[0x8a, 7, little(2 ** 53 - 1, 7)], 2 ** 53 - 1],
    'a bigint': [[0x8a, 7, little(2n ** 53n, 7)], 2n ** 53n],
    'a negative bigint': [[0x8a, 8, little(-(2n ** 63n), 8)], -(2n ** 63n)],
    'a long integer': [[0x8b, little(300, 4), new Uint8Array(299), 1], 2n ** 2392n],
    'a float': [['G', 0x40, 0x04, 0, 0, 0, 0, 0, 0], 2.5],
    text: [['X', little(3, 4), 'aü'], 'aü'],
    'short text': [[0x8c, 4, '€x'], '€x'],
    'text of 64-bit length': [[0x8d, little(1, 8), 'x'], 'x'],
    'text that starts with a mark of byte order': [[0x8c, 3, 0xef, 0xbb, 0xbf], '\ufeff'],
    'text of Python 2': [['U', 2, 'ab'], 'ab'],
    'long text of Python 2': [['T', little(2, 4), 'ab'], 'ab'],
    bytes: [['B', little(2, 4), 0, 255], Uint8Array.of(0, 255)],
    'short bytes': [['C', 2, 0, 255], Uint8Array.of(0, 255)],
    'bytes of 64-bit length': [[0x8e, little(2, 8), 0, 255], Uint8Array.of(0, 255)],
    'a bytearray': [[0x96, little(2, 8), 0, 255], Uint8Array.of(0, 255)],
    'an empty tuple': [[')'], new PickleTuple([])],
    'a tuple of one': [['K', 1, 0x85], new PickleTuple([1])],
    'a tuple of two': [['K', 1, 'K', 2, 0x86], new PickleTuple([1, 2])],
    'a tuple of three': [['K', 1, 'K', 2, 'K', 3, 0x87], new PickleTuple([1, 2, 3])],
    'a tuple of any length': [['(', 'K', 1, 'K', 2, 't'], new PickleTuple([1, 2])],
    'a list': [
      [']', 'K', 1, 'a', '(', 'K', 2, 'K', 3, 'e'],
      [1, 2, 3],
    ],
    'a dict': [
      ['}', 'K', 1, 'N', 's', '(', 'K', 2, 'N', 'K', 1, 'K', 9, 'u'],
      new Map([
        [1, 9],
        [2, null],
      ]),
    ],
    'a set': [[0x8f, '(', 'K', 1, 'K', 2, 'K', 1, 0x90], new Set([1, 2])],
    'a frozenset': [['(', 'K', 1, 0x91], new Set([1])],
    'a value taken off': [['K', 1, 'K', 2, '0'], 1],
    'a mark taken off': [['K', 1, '(', '0'], 1],
    'values taken off to a mark': [['K', 1, '(', 'K', 2, 'K', 3, '1'], 1],
    'a value twice': [['K', 1, '2', 0x86], new PickleTuple([1, 1])],
    'a kept value': [['K', 5, 'q', 3, 'h', 3, 0x86], new PickleTuple([5, 5])],
    'values kept out of turn': [
      ['K', 5, 'q', 1, '0', 'K', 6, 'q', 0, 'K', 7, 'q', 1, '(', 'h', 1, 'h', 0, 't', 0x87],
      new PickleTuple([6, 7, new PickleTuple([7, 6])]),
    ],
    'a value kept far away': [['K', 5, 'r', little(70000, 4), 'j', little(70000, 4), 0x86], new PickleTuple([5, 5])],
    'values kept in turn': [['K', 5, 0x94, 'K', 6, 0x94, 'h', 0, 0x87], new PickleTuple([5, 6, 5])],
    'a kept None': [['N', 0x94, 'h', 0, 0x86], new PickleTuple([null, null])],
    'a call': [['cm\ndouble\n', 'K', 21, 0x85, 'R'], 42],
    'a call of a name on the stack': [[0x8c, 1, 'm', 0x8c, 6, 'double', 0x93, 'K', 21, 0x85, 'R'], 42],
    'an object kept outside': [
      ['K', 7, 'Q'],
      ['kept', 7],
    ],
    'a protocol and a frame': [[0x80, 4, 0x95, little(1, 8), 'N'], null],
    'attributes of a dict, left out': [['}', 'K', 1, 'K', 2, 's', '}', 'b'], new Map([[1, 2]])],
  };
  for (const [what, [parts, value]] of Object.entries(values)) {
    it(`reads ${what}`, () => assert.deepEqual(read(...parts, '.'), value));
  }

  it('gives an object its state', () => {
    assert.equal(read('cm\nobject\n', 'K', 3, 'b', '.'), marked);
    assert.equal(marked.state, 3);
  });

  it('has a value that is referred to twice once', () => {
    const [first, second] = (read(']', 0x94, 'h', 0, 0x86, '.') as PickleTuple).items;
    assert.equal(first, second);
  });

  it('stops behind the pickle, where another may start', () => {
    const input = new PickleInput(openSource(bytes('junk', 'K', 1, '.', 'K', 2, '.', 'rest')), 4, 10);
    assert.equal(unpickle(input, host), 1);
    assert.equal(unpickle(input, host), 2);
    assert.equal(input.left, 0);
    assert.throws(() => unpickle(input, host), PickleDamage);
  });

  it('reads what is longer than it reads at a time', () => {
    const texts = Array.from({ length: 3000 }, (_, i) => `text ${i}`.padEnd(20 + (i % 50), 'x'));
    const long = 'y'.repeat(200_000);
    const parts = [...texts, long, 'end'].flatMap((text) => ['X', little(text.length, 4), text]);
    assert.deepEqual(read(']', '(', ...parts, 'e', '.'), [...texts, long, 'end']);
  });

  it('does not recurse, however deep the nesting', () => {
    let value = read(']'.repeat(100_000), 'a'.repeat(99_999), '.');
    let depth = 0;
    for (; Array.isArray(value); value = value[0]!) depth++;
    assert.equal(depth, 100_000);
  });

  it('gives bytes of their own, which later reading leaves alone', () => {
    const fill = Buffer.alloc(300_000, 1);
    const [first] = (read('C', 3, 7, 8, 9, 'B', little(fill.length, 4), fill, 0x86, '.') as PickleTuple).items;
    assert.deepEqual(first, Uint8Array.of(7, 8, 9));
    assert.equal((first as Uint8Array).buffer.byteLength, 3);
  });

  const refused: Record<string, [parts: (number | string | Uint8Array)[], reason: RegExp]> = {
    nothing: [[], /ends where 1 bytes should follow, and 0 do/],
    'a value cut off': [['J', 1, 2], /ends where 4 bytes should follow, and 2 do/],
    'text cut off': [['X', little(10, 4), 'abc'], /ends where 10 bytes should follow, and 3 do/],
    'a length beyond the file': [[0x8d, little(2n ** 63n, 8), 'x'], /ends where 9223372036854775808 bytes/],
    'a frame beyond the file': [[0x95, little(2n ** 64n - 1n, 8), 'N.'], /ends where 18446744073709551615 bytes/],
    'a name without an end': [['c', 'a'.repeat(2000)], /a name has no end within 1000 bytes/],
    'a name cut off': [['cos\nsys'], /ends where 1 bytes/],
    'text that is not UTF-8': [['U', 2, 0xc3, 0x28, '.'], /a string is not UTF-8/],
    'a name that is not UTF-8': [['c', 0xff, '\na\n', '.'], /a string is not UTF-8/],
    'an unknown name': [['cos\nsystem\n'], /the Python object 'os\.system', which cannot be made.*state_dict\(\)/s],
    'a name that objects have': [['cconstructor\nconstructor\n'], /the Python object 'constructor\.constructor'/],
    'a name of two parts in one': [['cm.dou\nble\n'], /the Python object 'm\.dou\.ble'/],
    'a name on the stack that is no text': [['K', 1, 'K', 2, 0x93], /a name is no string/],
    'an unknown protocol': [[0x80, 6, 'N.'], /unknown pickle protocol 6/],
    'protocol 0': [['I1\n.'], /the instruction 0x49/],
    'an object made by its class': [[')', ')', 0x81, '.'], /the instruction 0x81/],
    'an extension': [[0x82, 1, '.'], /the instruction 0x82/],
    'a buffer kept outside': [[0x97, '.'], /the instruction 0x97/],
    'no instruction': [[0xff], /the instruction 0xff/],
    'a huge integer': [[0x8b, little(2000, 4), new Uint8Array(2000), '.'], /an integer of 2000 bytes/],
    'an integer of a negative length': [[0x8b, little(-1, 4), '.'], /an integer of -1 bytes/],
    'a call of no function': [['K', 1, ')', 'R', '.'], /calls what is no function/],
    'a call without a tuple': [['cm\nlist\n', ']', 'R', '.'], /calls m\.list without a tuple/],
    'a state of what has none': [['K', 1, 'N', 'b', '.'], /sets the state of what has none/],
    'a state of a function': [['cm\nlist\n', 'N', 'b', '.'], /sets the state of what has none/],
    'an item of no list': [[')', 'K', 1, 'a', '.'], /appends to what is no list/],
    'items of no list': [['}', '(', 'K', 1, 'e', '.'], /appends to what is no list/],
    'an item of no dict': [[']', 'K', 1, 'K', 1, 's', '.'], /sets items of what is no dict/],
    'items of no dict': [[']', '(', 'K', 1, 'K', 1, 'u', '.'], /sets items of what is no dict/],
    'items of no set': [[']', '(', 'K', 1, 0x90, '.'], /adds items to what is no set/],
    'a key without a value': [['}', '(', 'K', 1, 'u', '.'], /a key without a value/],
    'a list as a key': [['}', ']', 'N', 's', '.'], /a list or a dict is used as a key/],
    'a dict in a set': [['(', '}', 0x91, '.'], /a list or a dict is used as a key/],
    'a list in a set': [[0x8f, '(', ']', 0x90, '.'], /a list or a dict is used as a key/],
    'a value that is not there': [['0', '.'], /takes values that are not there/],
    'a value from below a mark': [['K', 1, '(', 'K', 2, 0x86, '.'], /takes values that are not there/],
    'a list below a mark': [[']', '(', '(', 'e', '.'], /takes values that are not there/],
    'the end of a list that was not started': [['K', 1, 't', '.'], /ends a list of items that it did not start/],
    'a value that was never kept': [['h', 7, '.'], /recalls value 7, which it never kept/],
    'a kept nothing': [['q', 0, 'N.'], /takes values that are not there/],
    'two values at its end': [['K', 1, 'K', 2, '.'], /2 values are left at its end/],
    'no value at its end': [['.'], /0 values are left at its end/],
    'an open mark at its end': [['K', 1, '(', '.'], /left at its end/],
    'text beyond the file': [['X', little(2 ** 32 - 1, 4), 'x'], /ends where 4294967295 bytes should follow, and 1 do/],
    'values larger than the memory for them': [[Buffer.from('}0'.repeat(2_200_000))], /more than 512 MiB of memory/],
  };
  for (const [what, [parts, reason]] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => read(...parts),
        (error: unknown) => error instanceof PickleDamage && (assert.match(error.message, reason), true),
      );
    });
  }

  it('reads text after text that was not UTF-8', () => {
    assert.throws(() => read('U', 1, 0xc3, '.'), PickleDamage);
    assert.equal(read('U', 1, 'a', '.'), 'a');
  });
});
