import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { runProgramsOf } from './support/programs';

const root = resolve(__dirname, '..');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  exports: Record<string, string | { types: string; default: string }>;
};

/** A folder of a user's, where `kontrast` is installed. */
function withUserFolder(body: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'kontrast-user-'));
  try {
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(root, join(folder, 'node_modules', 'kontrast'), 'dir');
    body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function node(folder: string, file: string, code: string): string {
  writeFileSync(join(folder, file), code);
  return execFileSync(process.execPath, [file], { cwd: folder, encoding: 'utf8' }).trim();
}

describe('the package', () => {
  const program =
    'const x = torch.tensor([1, 2]).requiresGrad_(); x.mul(x).sum().backward(); console.log(x.grad.toArraySync().join());';

  it('is imported by name from ES modules and from CommonJS, with one copy of its state', () => {
    withUserFolder((folder) => {
      assert.equal(node(folder, 'a.mjs', `import { torch } from 'kontrast';\n${program}`), '2,4');
      assert.equal(node(folder, 'b.cjs', `const { torch } = require('kontrast');\n${program}`), '2,4');
      const both = `
        import { createRequire } from 'node:module';
        import { Tensor, torch } from 'kontrast/torch';
        const { Linear } = createRequire(import.meta.url)('kontrast/nn');
        const layer = new Linear({ inFeatures: 2, outFeatures: 3 });
        console.log(layer.forward(torch.ones([1, 2])) instanceof Tensor);`;
      assert.equal(node(folder, 'c.mjs', both), 'true');
    });
  }).timeout(60_000);

  it('has every room that its exports name', () => {
    withUserFolder((folder) => {
      const rooms = Object.keys(manifest.exports).filter((name) => name !== './package.json');
      assert.ok(rooms.length > 10);
      const names = rooms.map((room) => `kontrast${room.slice(1)}`);
      const code = names.map((name) => `import * as r${String(names.indexOf(name))} from '${name}';`).join('\n');
      const counts = `console.log([${names.map((_, i) => `Object.keys(r${String(i)}).length`).join()}].join());`;
      for (const count of node(folder, 'rooms.mjs', `${code}\n${counts}`).split(',')) assert.ok(Number(count) > 0);
    });
  }).timeout(60_000);

  it('does what the programs in the README do', () => {
    const printed = runProgramsOf('README.md');
    assert.equal(printed.length, 2);
    assert.match(printed[0]!, /^tensor\(/);
    const losses = printed[1]!.split('\n').map((line) => Number(line.split(' ')[1]));
    assert.equal(losses.length, 5);
    assert.ok(losses[4]! < losses[0]! / 2, losses.join());
  }).timeout(120_000);

  it('gives the type checker little to do', () => {
    withUserFolder((folder) => {
      const code = `
        import { torch, scope, type Tensor } from 'kontrast';
        import { Linear } from 'kontrast/nn';
        export const y: Tensor = scope(() => new Linear({ inFeatures: 2, outFeatures: 3 }).forward(torch.ones([1, 2])).div(0.1));
        export const z: Promise<Tensor> = torch.async.matmul(y, y);`;
      writeFileSync(join(folder, 'a.mts'), code);
      writeFileSync(join(folder, 'empty.mts'), 'export {};');
      const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
      // Node's own types are most of the work, with or without kontrast.
      const types = ['--typeRoots', join(root, 'node_modules', '@types'), '--types', 'node', '--extendedDiagnostics'];
      const options = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'nodenext', ...types];
      /** How much more there is to do than for an empty file. Unlike times, counts do not depend on how busy the machine is. */
      const work = (skipLibCheck: string): { types: number; instantiations: number } => {
        const [empty, full] = ['empty.mts', 'a.mts'].map((file) => {
          const args = [tsc, ...options, '--skipLibCheck', skipLibCheck, file];
          return execFileSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
        });
        const added = (name: string): number => {
          const [before, after] = [empty!, full!].map(
            (printed) => new RegExp(`^${name}: *(\\d+)$`, 'm').exec(printed)![1],
          );
          return Number(after) - Number(before);
        };
        return { types: added('Types'), instantiations: added('Instantiations') };
      };
      const usual = work('true');
      assert.ok(usual.types < 2500 && usual.instantiations < 500, JSON.stringify(usual));
      const everything = work('false');
      assert.ok(everything.types < 12_000 && everything.instantiations < 4000, JSON.stringify(everything));
    });
  }).timeout(120_000);

  it('has types for ES modules, CommonJS and bundlers', () => {
    withUserFolder((folder) => {
      const code = `
        import { torch, scope, type Tensor } from 'kontrast';
        import { Linear } from 'kontrast/nn';
        export const y: Tensor = scope(() => new Linear({ inFeatures: 2, outFeatures: 3 }).forward(torch.ones([1, 2])).div(0.1));
        // @ts-expect-error a string is no dimension
        y.sum('rows');`;
      writeFileSync(join(folder, 'module.mts'), code);
      writeFileSync(join(folder, 'common.cts'), code);
      const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
      const check = (...flags: string[]): void => {
        try {
          execFileSync(process.execPath, [tsc, '--noEmit', '--strict', '--target', 'es2022', ...flags], {
            cwd: folder,
            encoding: 'utf8',
          });
        } catch (error) {
          assert.fail((error as { stdout: string }).stdout);
        }
      };
      const rooms = Object.keys(manifest.exports).filter((name) => name !== './package.json');
      writeFileSync(join(folder, 'rooms.mts'), rooms.map((room) => `import 'kontrast${room.slice(1)}';`).join('\n'));
      // The user has no types of Node of their own; the declarations must bring what they need.
      const types = ['--skipLibCheck', 'false'];
      check('--module', 'nodenext', ...types, 'module.mts', 'common.cts', 'rooms.mts');
      check('--module', 'esnext', '--moduleResolution', 'bundler', ...types, 'module.mts');
    });
  }).timeout(120_000);
});
