import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { libraryFile } from '../../src/libtorch/folder';
import { FakeIndex } from '../libtorch/fake-index';
import { isolatedEnvironment, temporaryFolder, torchFiles, writeTorch } from '../libtorch/fakes';
import { kontrast } from './support';

describe('kontrast setup', () => {
  const base = temporaryFolder();
  const index = new FakeIndex();
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  const torch = `torch-2.13.0-cp311-cp311-${process.platform === 'linux' ? `linux_${machine}` : 'any'}.whl`;
  const before = { ...process.env };
  let count = 0;
  let env: NodeJS.ProcessEnv;

  beforeEach(() => {
    const files: Record<string, string> = { [`torch/lib/${libraryFile('torch_cuda')}`]: 'cuda' };
    for (const [path, content] of Object.entries(torchFiles('2.13.0+cu130'))) files[`torch/${path}`] = content;
    index.add(torch, ['cuda-toolkit==13.0.3'], files);
    index.add('cuda_toolkit-13.0.3-py3-none-any.whl', []);
    const folder = join(base, String(++count));
    mkdirSync(folder);
    env = isolatedEnvironment(folder);
    delete env.PIP_NO_INDEX;
    delete process.env.LIBTORCH;
    Object.assign(process.env, env, { PATH: join(folder, 'bin') });
  });
  afterEach(() => {
    for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
    Object.assign(process.env, before);
  });

  it('prints the plan of a dry run, and changes nothing', async () => {
    const { code, out } = await kontrast('setup', '--variant', 'cu130', '--index-url', index.url, '--dry-run');
    assert.equal(code, 0);
    assert.match(out, new RegExp(`^LibTorch 2\\.13\\.0 \\(cu130\\) is made of:\n  ${torch} +\\d+ kB\n  cuda_toolkit-`));
    assert.match(out, /\nto download {3}\d+ kB from 127\.0\.0\.1:\d+\non the disk /);
    assert.equal(existsSync(env.KONTRAST_CACHE!), false);
  });

  it('prints the plan as JSON and nothing else', async () => {
    const words = ['setup', '--cuda', '--variant', 'cu130', '--index-url', index.url];
    const { out } = await kontrast(...words, '--dry-run', '--json');
    const plan = JSON.parse(out) as { variant: string; wheels: { fileName: string; size: number; sha256: string }[] };
    assert.equal(plan.variant, 'cu130');
    assert.deepEqual(
      plan.wheels.map(({ fileName, size, sha256 }) => [fileName, size, sha256.length]),
      [torch, 'cuda_toolkit-13.0.3-py3-none-any.whl'].map((name) => [name, index.wheels.get(name)!.length, 64]),
    );
  });

  it('says in a dry run that LibTorch is there', async () => {
    process.env.LIBTORCH = writeTorch(join(base, 'there'), '2.13.0+cpu');
    const { out } = await kontrast('setup', '--dry-run');
    assert.equal(out, `LibTorch 2.13.0 (cpu) is there: ${process.env.LIBTORCH}. Nothing would be downloaded.\n`);
    const { out: json } = await kontrast('setup', '--dry-run', '--json');
    assert.equal((JSON.parse(json) as { found: { version: string } }).found.version, '2.13.0');
  });

  it('sets up without a question where nobody is at the keyboard, and goes back', async () => {
    const { code, out, err } = await kontrast('setup', '--variant', 'cu130', '--index-url', index.url);
    assert.equal(code, 0, err);
    assert.match(out, /is made of:[^]*is ready: \d+ files/);
    assert.deepEqual(readdirSync(env.KONTRAST_CACHE!), ['chosen.json', 'libtorch-2.13.0-cu130']);
    const back = await kontrast('setup', '--cpu');
    assert.match(back.out, /^the build with CUDA is no longer preferred\n/);
  });

  it('gathers wheels for another machine', async () => {
    const folder = join(base, 'gathered');
    const words = ['--variant', 'cu130', '--index-url', index.url];
    const { out } = await kontrast('setup', ...words, '--download-only', folder);
    assert.equal(readdirSync(folder).length, 2);
    assert.ok(
      out.endsWith(
        `2 wheels are in ${folder}; on the other machine: npx kontrast setup --wheels <that folder> --cuda --variant cu130\n`,
      ),
      out,
    );
    const offline = await kontrast('setup', '--wheels', folder, '--variant', 'cu130');
    assert.equal(offline.code, 0, offline.err);
    writeFileSync(join(folder, torch), 'no wheel');
    const damaged = await kontrast('setup', '--wheels', folder, '--variant', 'cu130', '--force');
    assert.equal(damaged.code, 1);
    assert.match(damaged.err, new RegExp(`^error: ${torch} .* is damaged`));
  });

  it('refuses options that contradict each other', async () => {
    for (const words of [
      ['--json'],
      ['--wheels', 'a', '--index-url', 'b'],
      ['--wheels', 'a', '--download-only', 'b'],
      ['--cuda', '--cpu'],
      ['--variant', 'gpu'],
    ]) {
      const { code, err } = await kontrast('setup', ...words);
      assert.equal(code, 2, words.join(' '));
      assert.match(err, /^error: /);
    }
  });
});
