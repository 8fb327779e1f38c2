import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { pairStatistics } from '../../src/contrast';
import { topScores } from '../../src/nn';
import { getThreads, scope, setThreads, torch } from '../../src/torch';

/** How much processor time each thread of this process has had, in the system's ticks. */
function ticksOfThreads(): Map<string, number> {
  return new Map(
    readdirSync('/proc/self/task').map((thread) => {
      const fields = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
      return [thread, Number(fields[11])];
    }),
  );
}

/** What the second busiest thread does of a body's work, as a share of the busiest one's. */
function shareOfSecond(body: () => void): number {
  const before = ticksOfThreads();
  const end = performance.now() + 600;
  while (performance.now() < end) body();
  const spent = [...ticksOfThreads()].map(([thread, ticks]) => ticks - (before.get(thread) ?? 0));
  const [first, second] = spent.sort((a, b) => b - a) as [number, number];
  return second / first;
}

describe('work on several threads', () => {
  it('is shared by two where LibTorch has two, and done by one where it has one', function () {
    if (process.platform !== 'linux') this.skip();
    const threads = getThreads();
    try {
      scope(() => {
        const [rows, columns] = [torch.randn([2048, 64]), torch.randn([20000, 64])];
        const works: Record<string, () => unknown> = {
          topScores: () => topScores(rows, columns, { count: 5 }),
          pairStatistics: () => pairStatistics({ rows, columns }, [{ kind: 'logSumExp', over: 'all' }], 'tiled'),
        };
        for (const [name, work] of Object.entries(works)) {
          const share = (count: number): number => {
            setThreads(count);
            return shareOfSecond(() => {
              scope(work);
            });
          };
          const [alone, shared] = [share(1), share(2)];
          assert.ok(alone < 0.2, `${name}: beside one thread another did ${alone} of its work`);
          assert.ok(shared > 0.3, `${name}: the second thread did ${shared} of the first one's work`);
        }
      });
    } finally {
      setThreads(threads);
    }
  });
});
