import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { RunFolder, type RunMode, type RunRecord } from '../../src/train/run-folder';

const record: RunRecord = {
  recipe: 'tiny',
  recipePath: '/recipes/tiny.ts',
  recipeHash: '00',
  options: { steps: 3 },
  seed: 1,
  device: 'cpu',
  threads: 2,
  kontrast: '0.1.0',
  node: 'v20.0.0',
  started: '2026-01-01T00:00:00.000Z',
};

describe('run folder', () => {
  let parent: string;
  let folder: RunFolder;
  beforeEach(() => {
    parent = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-run-'));
    folder = new RunFolder(path.join(parent, 'runs', 'a'));
  });
  afterEach(() => fs.rmSync(parent, { recursive: true }));

  it('starts where there is nothing, and only when told to begin', () => {
    assert.equal(folder.check('new'), null);
    assert.equal(folder.check('overwrite'), null);
    assert.ok(!fs.existsSync(folder.path));
    folder.begin(record);
    assert.deepEqual(JSON.parse(fs.readFileSync(folder.record, 'utf8')), record);
    assert.ok(!folder.hasCheckpoint);
  });

  it('refuses a folder with a run unless told to resume or overwrite', () => {
    folder.begin(record);
    assert.throws(() => folder.check('new'), /holds a run already: .*--resume.*--overwrite.*--out/);
    assert.deepEqual(folder.check('resume'), record);
    assert.equal(folder.check('overwrite'), null);
  });

  it('refuses to resume where there is no run', () => {
    assert.throws(() => folder.check('resume'), /no run to resume in '.*a'/);
  });

  it("refuses somebody else's files whatever the mode", () => {
    fs.mkdirSync(folder.path, { recursive: true });
    for (const name of ['a', 'b', 'c', 'd']) fs.writeFileSync(path.join(folder.path, name), '');
    for (const mode of ['new', 'overwrite'] satisfies RunMode[]) {
      assert.throws(() => folder.check(mode), /files that are not of a run \(a, b, c, …\)/);
    }
    fs.writeFileSync(path.join(parent, 'file'), '');
    assert.throws(() => new RunFolder(path.join(parent, 'file')).check('new'), /is a file: the run needs a folder/);
  });

  it('takes a folder with nothing but locks for an empty one', () => {
    fs.mkdirSync(folder.path, { recursive: true });
    fs.writeFileSync(path.join(folder.path, 'lock.host.7.77'), '');
    assert.equal(folder.check('new'), null);
  });

  it('refuses a checkpoint of another run than its own, by what both say of it', () => {
    const checkpoint = path.join(folder.path, 'c.safetensors');
    folder.checkOwns(checkpoint, record); // No run.json: nothing to contradict.
    folder.begin(record);
    // What a resumed run may have changed.
    folder.checkOwns(checkpoint, {
      ...record,
      threads: 4,
      node: 'v22.0.0',
      recipeHash: '11',
      options: { steps: 3, more: 1 },
    });
    const cases: [Partial<RunRecord>, RegExp][] = [
      [{ recipe: 'other' }, /\(recipe: other in the checkpoint, tiny there\)/],
      [
        { options: { steps: 4 }, seed: 2 },
        /\(--steps: 4 in the checkpoint, 3 there; --seed: 2 in the checkpoint, 1 there\)/,
      ],
      [{ started: '2026-01-02T00:00:00.000Z' }, /\(started: 2026-01-02\S+ in the checkpoint, 2026-01-01\S+ there\)/],
    ];
    for (const [change, message] of cases) {
      assert.throws(
        () => folder.checkOwns(checkpoint, { ...record, ...change }),
        (error: Error) => {
          assert.match(
            error.message,
            /^the checkpoint '.*c\.safetensors' is not of the run that '.*run\.json' describes/,
          );
          assert.match(error.message, message);
          return true;
        },
      );
    }
  });

  it("removes a run's own files only when it starts over", () => {
    folder.begin(record);
    const own = [
      'metrics.jsonl',
      'checkpoint-last.safetensors',
      'checkpoint-step-20.safetensors',
      'report.html',
      'report.html.77.tmp',
    ];
    for (const name of [...own, 'notes.txt', 'checkpoint-best.safetensors'])
      fs.writeFileSync(path.join(folder.path, name), '');
    folder.begin(record);
    assert.deepEqual(fs.readdirSync(folder.path).sort(), ['checkpoint-best.safetensors', 'notes.txt', 'run.json']);
  });

  it('names a damaged record', () => {
    folder.begin(record);
    fs.writeFileSync(folder.record, '{');
    assert.throws(() => folder.check('resume'), /cannot read the run's record '.*run\.json': .*--overwrite/);
    fs.writeFileSync(folder.record, JSON.stringify({ ...record, seed: 'x' }));
    assert.throws(() => folder.check('resume'), /run\.json' does not hold a run's record: 'seed' is not a number/);
  });
});
