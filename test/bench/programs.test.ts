import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { peerPython } from '../../bench/harness/programs';

describe('bench programs', () => {
  it("finds the peers' Python where it was installed, and says how to install it where not", () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'kontrast-bench-test-'));
    try {
      assert.deepEqual(peerPython(folder), {
        unavailable: 'there is no Python peer: bench/setup-peer.sh installs it into bench/.venv',
      });
      const program = path.join(folder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
      mkdirSync(path.dirname(program));
      writeFileSync(program, '');
      assert.deepEqual(peerPython(folder), { program });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
