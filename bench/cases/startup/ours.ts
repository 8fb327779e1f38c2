/** kontrast's side of the case. Each run is a fresh Node on the compiled package, as a user's program would load it. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { serve } from '../../harness/serve';

const ROOT = path.resolve(__dirname, '../../..');

/** The newest file below a folder with one of the endings, as milliseconds since 1970. */
function newest(folder: string, ending: string): number {
  return Math.max(
    ...readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith(ending))
      .map((file) => statSync(path.join(folder, file)).mtimeMs),
  );
}

interface FirstResult {
  seconds: number;
  result: number;
  peakBytes?: number;
  versions: Record<string, string>;
}

function startOnce(): { first: FirstResult; processSeconds: number } {
  const start = performance.now();
  const child = spawnSync(process.execPath, [path.join(__dirname, 'first-result.cjs')], { encoding: 'utf8' });
  const processSeconds = (performance.now() - start) / 1000;
  if (child.status !== 0) throw new Error(`the fresh process failed: ${child.error?.message ?? child.stderr}`);
  return { first: JSON.parse(child.stdout) as FirstResult, processSeconds };
}

void serve({
  prepare() {
    const compiled = path.join(ROOT, 'dist');
    if (!existsSync(path.join(compiled, 'index.js'))) {
      throw new Error('this case measures the compiled package, and there is none: npm run build');
    }
    if (newest(path.join(ROOT, 'src'), '.ts') > newest(compiled, '.js')) {
      throw new Error('the compiled package is older than the sources: remove dist/, then npm run build');
    }
    return startOnce().first.versions;
  },
  run(options) {
    const { first, processSeconds } = startOnce();
    return {
      seconds: options['from'] === 'load' ? first.seconds : processSeconds,
      items: 1,
      result: first.result,
      ...(first.peakBytes === undefined ? {} : { peakBytes: first.peakBytes }),
    };
  },
});
