import { spawnSync } from 'node:child_process';

/** The command that starts Python on this platform. */
export const pythonCommand = process.platform === 'win32' ? 'python' : 'python3';

// Finding the specification does not run torch's own code, so this takes the time of an empty Python (about 0.1 s, and
// not the two seconds of an import). The empty entry of the search path is the current folder, where anything named
// `torch` may lie.
const question = `
import sys, importlib.util
sys.path[:] = [entry for entry in sys.path if entry]
spec = importlib.util.find_spec('torch')
if spec is not None and spec.origin is not None and spec.submodule_search_locations:
    sys.stdout.buffer.write(list(spec.submodule_search_locations)[0].encode('utf8'))
`;

/** The folder of the `torch` package that Python would import, or why there is none. Starts Python: not for every import. */
export function findPythonTorch(env: NodeJS.ProcessEnv = process.env): { root: string } | { refused: string } {
  const answer = spawnSync(pythonCommand, ['-c', question], { env, encoding: 'utf8', timeout: 30_000 });
  if (answer.error) {
    const missing = (answer.error as NodeJS.ErrnoException).code === 'ENOENT';
    return {
      refused: missing
        ? `no ${pythonCommand} on the PATH`
        : `${pythonCommand} could not be asked: ${answer.error.message}`,
    };
  }
  if (answer.status !== 0) {
    const last = answer.stderr.trim().split('\n').pop();
    return { refused: `${pythonCommand} ended with an error: ${last || `exit status ${answer.status}`}` };
  }
  const root = answer.stdout.trim();
  return root ? { root } : { refused: `${pythonCommand} has no torch` };
}
