import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { commandName, shellFolder, shellPath } from '../../src/cli/command-name';

describe('commandName', () => {
  let folder: string;
  let root: string;
  before(() => {
    folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-command-')));
    root = path.join(folder, 'store', 'kontrast');
    fs.mkdirSync(path.join(root, 'bin'), { recursive: true });
    fs.writeFileSync(path.join(root, 'bin', 'kontrast.js'), '');
    for (const name of ['project/node_modules', 'project/node_modules/.bin', 'project/src', 'global', 'elsewhere']) {
      fs.mkdirSync(path.join(folder, name), { recursive: true });
    }
    fs.symlinkSync(root, path.join(folder, 'project', 'node_modules', 'kontrast'));
    fs.symlinkSync(path.join(root, 'bin', 'kontrast.js'), path.join(folder, 'project/node_modules/.bin/kontrast'));
    fs.symlinkSync(path.join(root, 'bin', 'kontrast.js'), path.join(folder, 'global', 'kontrast'));
  });
  after(() => fs.rmSync(folder, { recursive: true }));

  const name = (shell: string, more: NodeJS.ProcessEnv = {}): string =>
    commandName({ INIT_CWD: path.join(folder, shell), ...more }, root);

  it('is npx where the package is installed above the shell, or npx has fetched it', () => {
    assert.equal(name('project'), 'npx kontrast');
    assert.equal(name('project/src'), 'npx kontrast');
    assert.equal(name('store/kontrast/bin'), 'npx kontrast');
    assert.equal(name('elsewhere', { npm_lifecycle_event: 'npx' }), 'npx kontrast');
  });

  it('is the bare name only for a command that the shell itself would find', () => {
    assert.equal(name('elsewhere', { PATH: path.join(folder, 'global') }), 'kontrast');
    assert.equal(name('project', { PATH: path.join(folder, 'project/node_modules/.bin') }), 'npx kontrast');
    fs.writeFileSync(path.join(folder, 'elsewhere', 'kontrast'), 'another program');
    assert.equal(name('project', { PATH: path.join(folder, 'elsewhere') }), 'npx kontrast');
  });

  it("is Node with the command's file anywhere else", () => {
    assert.equal(name('elsewhere'), 'node ../store/kontrast/bin/kontrast.js');
  });

  it('writes files as the shell takes them, from where it stands', () => {
    const env = { INIT_CWD: folder };
    assert.equal(shellFolder(env), folder);
    assert.equal(shellFolder({}), process.cwd());
    assert.equal(shellPath(path.join(folder, 'runs', 'a'), env), 'runs/a');
    assert.equal(shellPath(folder, env), '.');
    assert.equal(shellPath("/it's a/run", env), `'/it'\\''s a/run'`);
  });
});
