import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder that is there during each test of the `describe` around it; gives the path of a name in it. */
export function scratch(): (name: string) => string {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'kontrast-test-'))));
  afterEach(() => rmSync(folder, { recursive: true }));
  return (name) => join(folder, name);
}
