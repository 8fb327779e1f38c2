/**
 * Runs benchmark cases: `npm run bench -- <case>… [options]`, or with `--help` what there is.
 *
 * Exit codes: 0 measured (goals may be missed), 1 a case failed (crash, mismatch), 2 wrong usage, 3 a goal was missed
 * and `--check` was given.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Case } from './harness/case';
import { describeCommit, describeMachine, machineKind } from './harness/machine';
import { measure } from './harness/measure';
import { formatReport, resultPath, toResult, writeResult } from './harness/report';

// A case is TypeScript: Node's own import() would pass ts-node by.
const loadCase = createRequire(__filename);
const ROOT = path.resolve(__dirname, '..');
const CASES = path.join(__dirname, 'cases');
const RESULTS = path.join(__dirname, 'results');

function caseNames(): string[] {
  return readdirSync(CASES)
    .filter((name) => existsSync(path.join(CASES, name, 'case.ts')))
    .sort();
}

const HELP = `usage: npm run bench -- <case>… [options]

cases: ${caseNames().join(', ')}, all

  --rounds <n>     rounds whose times count, instead of the case's own number
  --threads <n>    threads of every implementation (default: the processors there are)
  --timeout <s>    longest wait for one answer of an implementation (default 600)
  --out <file>     where the results go (default bench/results/<case>-<machine>-<date>.json)
  --dry            print only, keep no results
  --check          exit with 3 when a goal is missed
  --help           this text`;

class UsageError extends Error {}

function positiveInteger(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new UsageError(`--${name} takes a whole number from 1, not ${text}`);
  return value;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string' },
      threads: { type: 'string', default: String(os.availableParallelism()) },
      timeout: { type: 'string', default: '600' },
      out: { type: 'string' },
      dry: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const known = caseNames();
  const names = positionals.includes('all') ? known : positionals;
  if (names.length === 0) throw new UsageError('name a case');
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new UsageError(`there is no case ${unknown}; there are ${known.join(', ')}`);
  if (values.out !== undefined && names.length > 1) throw new UsageError('--out takes one case at a time');
  const threads = positiveInteger('threads', values.threads);
  const timeoutSeconds = positiveInteger('timeout', values.timeout);
  const rounds = values.rounds === undefined ? undefined : positiveInteger('rounds', values.rounds);

  let failed = false;
  let missed = false;
  for (const name of names) {
    const { benchmark } = loadCase(path.join(CASES, name, 'case')) as { benchmark: Case };
    const machine = describeMachine();
    const date = new Date().toISOString();
    try {
      const report = await measure(benchmark, {
        root: ROOT,
        ...(rounds === undefined ? {} : { rounds }),
        threads,
        timeoutSeconds,
        log: (line) => {
          console.error(line);
        },
      });
      const result = toResult(benchmark, report, {
        date,
        commit: describeCommit(ROOT) ?? null,
        kontrast: (JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string }).version,
        node: process.versions.node,
        threads: benchmark.threads ?? threads,
        machine,
        machineKind: machineKind(machine),
      });
      console.log(formatReport(result));
      if (!values.dry) {
        const file = values.out ?? resultPath(RESULTS, result);
        writeResult(file, result);
        console.log(`results: ${path.relative(process.cwd(), file)}`);
      }
      missed ||= report.goals.some(({ met }) => met === false);
    } catch (error) {
      failed = true;
      console.error(`${name} failed: ${error instanceof Error ? error.message : String(error)}`);
    }
    console.log('');
  }
  if (failed) return 1;
  return missed && values.check ? 3 : 0;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const usage = error instanceof UsageError || (error instanceof TypeError && 'code' in error);
    console.error(usage ? `${error.message}\n\n${HELP}` : error);
    process.exitCode = usage ? 2 : 1;
  },
);
