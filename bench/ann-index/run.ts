/**
 * Libraries for approximate nearest neighbours that install from npm: how long an index takes to build, and how many queries a second it
 * answers at a recall@10 of 0.95 and of 0.99. The chosen one is behind `ApproximateIndex`.
 *
 *     npm install --prefix bench/.cache/ann-index usearch@2.25.3 hnswlib-node@3.0.0 @lancedb/lancedb@0.37.1
 *     npx ts-node --transpile-only bench/ann-index/run.ts [--rows 100000] [--out bench/results/ann-index.json]
 *
 * 100,000 vectors of 128 numbers and length one in 1,000 clusters, and 1,000 queries from the same clusters. One thread, graphs of 16 neighbours
 * with 128 candidates while they are built, float32. What is not installed, or cannot be, is reported as such.
 */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { functional } from '../../src/nn';
import { Generator, noGrad, scope, setThreads, torch } from '../../src/torch';
import { writeFileAtomic } from '../../src/torch/files';
import { describeCommit, describeMachine } from '../harness/machine';

const DIMENSION = 128;
const QUERIES = 1000;
const NEIGHBOURS = 10;
const EFFORTS = [16, 32, 64, 128, 256, 512];
const TARGETS = [0.95, 0.99];

interface Data {
  rows: number;
  vectors: Float32Array;
  queries: Float32Array;
  /** The right neighbours of each query. */
  truth: Set<number>[];
}

/** What one effort of search brings. */
interface Point {
  effort: number;
  recall: number;
  /** By the clock, on a machine that may be busy with other things. */
  queriesPerSecond: number;
  /** By the time that processors spent on it. */
  queriesPerCpuSecond: number;
}

interface Built {
  /** The nearest of every query at an effort. */
  search(effort: number): number[][] | Promise<number[][]>;
  bytes(): number;
  close?(): void;
}

interface Library {
  name: string;
  package: string;
  build(module: unknown, data: Data, folder: string): Built | Promise<Built>;
}

function makeData(rows: number): Data {
  const generator = new Generator({ seed: 1 });
  return noGrad(() =>
    scope(() => {
      const centres = torch.randn([1000, DIMENSION], { generator });
      const draw = (count: number) => {
        const own = centres.indexSelect(0, torch.randint(1000, [count], { generator, dtype: 'int64' }));
        return functional.normalize(own.add(torch.randn([count, DIMENSION], { generator }).mul(0.7)));
      };
      const [vectors, queries] = [draw(rows), draw(QUERIES)];
      const nearest = queries.matmul(vectors.t()).topk(NEIGHBOURS, 1)[1].dataSync() as BigInt64Array;
      const truth = Array.from(
        { length: QUERIES },
        (_, query) => new Set(Array.from(nearest.subarray(query * NEIGHBOURS, (query + 1) * NEIGHBOURS), Number)),
      );
      return {
        rows,
        vectors: Float32Array.from(vectors.dataSync() as Float32Array),
        queries: Float32Array.from(queries.dataSync() as Float32Array),
        truth,
      };
    }),
  );
}

const row = (all: Float32Array, index: number): Float32Array =>
  all.subarray(index * DIMENSION, (index + 1) * DIMENSION);

interface USearch {
  Index: new (options: Record<string, unknown>) => {
    add(keys: BigUint64Array, vectors: Float32Array, threads: number): void;
    search(vectors: Float32Array, k: number, threads: number): { keys: BigUint64Array };
    save(path: string): void;
    load(path: string): void;
  };
}

const usearch = (quantization: string): Library => ({
  name: `usearch ${quantization}`,
  package: 'usearch',
  build(module, { rows, vectors, queries }, folder) {
    const { Index } = module as USearch;
    const options = { dimensions: DIMENSION, metric: 'ip', quantization, connectivity: 16, expansion_add: 128 };
    const file = join(folder, `usearch-${quantization}`);
    const index = new Index({ ...options, expansion_search: 64 });
    index.add(
      BigUint64Array.from({ length: rows }, (_, i) => BigInt(i)),
      vectors,
      1,
    );
    let at: { effort: number; index: typeof index } | undefined;
    return {
      search(effort) {
        if (at?.effort !== effort) {
          index.save(file);
          at = { effort, index: new Index({ ...options, expansion_search: effort }) };
          at.index.load(file);
        }
        const { keys } = at.index.search(queries, NEIGHBOURS, 1);
        return Array.from({ length: QUERIES }, (_, q) =>
          Array.from(keys.subarray(q * NEIGHBOURS, (q + 1) * NEIGHBOURS), Number),
        );
      },
      bytes: () => (index.save(file), statSync(file).size),
    };
  },
});

interface Hnswlib {
  HierarchicalNSW: new (
    space: string,
    dimension: number,
  ) => {
    initIndex(options: { maxElements: number; m: number; efConstruction: number; randomSeed: number }): void;
    addPoint(point: number[], label: number): void;
    searchKnn(point: number[], k: number): { neighbors: number[] };
    setEf(ef: number): void;
    writeIndexSync(path: string): void;
  };
}

const hnswlib: Library = {
  name: 'hnswlib-node',
  package: 'hnswlib-node',
  build(module, { rows, vectors, queries }, folder) {
    const index = new (module as Hnswlib).HierarchicalNSW('ip', DIMENSION);
    index.initIndex({ maxElements: rows, m: 16, efConstruction: 128, randomSeed: 1 });
    for (let i = 0; i < rows; i++) index.addPoint(Array.from(row(vectors, i)), i);
    const file = join(folder, 'hnswlib');
    return {
      search(effort) {
        index.setEf(effort);
        return Array.from(
          { length: QUERIES },
          (_, q) => index.searchKnn(Array.from(row(queries, q)), NEIGHBOURS).neighbors,
        );
      },
      bytes: () => (index.writeIndexSync(file), statSync(file).size),
    };
  },
};

interface Search {
  distanceType(name: string): Search;
  nprobes(count: number): Search;
  ef(count: number): Search;
  select(columns: string[]): Search;
  limit(count: number): Search;
  toArray(): Promise<{ id: number }[]>;
}

interface LanceDB {
  connect(path: string): Promise<{
    createTable(
      name: string,
      rows: { id: number; vector: number[] }[],
    ): Promise<{
      createIndex(column: string, options: { config: unknown }): Promise<void>;
      vectorSearch(vector: Float32Array): Search;
    }>;
  }>;
  Index: { hnswSq(options: Record<string, unknown>): unknown };
}

const lancedb: Library = {
  name: 'LanceDB HNSW-SQ (its own threads)',
  package: '@lancedb/lancedb',
  async build(module, { rows, vectors, queries }, folder) {
    const { connect, Index } = module as LanceDB;
    const database = await connect(join(folder, 'lancedb'));
    const table = await database.createTable(
      'vectors',
      Array.from({ length: rows }, (_, i) => ({ id: i, vector: Array.from(row(vectors, i)) })),
    );
    const config = Index.hnswSq({ distanceType: 'dot', numPartitions: 1, m: 16, efConstruction: 128 });
    await table.createIndex('vector', { config });
    return {
      async search(effort) {
        const found: number[][] = [];
        for (let q = 0; q < QUERIES; q++) {
          const search = table.vectorSearch(row(queries, q)).distanceType('dot').nprobes(1).ef(effort);
          found.push((await search.select(['id', '_distance']).limit(NEIGHBOURS).toArray()).map(({ id }) => id));
        }
        return found;
      },
      bytes: () => NaN,
    };
  },
};

/** The exact search that an index has to beat. */
async function exact(data: Data): Promise<number> {
  const [keys, queries] = [data.vectors, data.queries].map((x) =>
    torch.fromTypedArray(x, [x.length / DIMENSION, DIMENSION]),
  );
  const seconds: number[] = [];
  for (let time = 0; time < 3; time++) {
    const start = process.cpuUsage();
    scope(() => queries!.matmul(keys!.t()).topk(NEIGHBOURS, 1)[1].dataSync());
    seconds.push(cpuSeconds(start));
    await Promise.resolve();
  }
  return QUERIES / Math.min(...seconds);
}

function cpuSeconds(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
}

async function measure(library: Library, data: Data, packages: string, folder: string) {
  let module: unknown;
  try {
    module = createRequire(join(packages, 'package.json'))(library.package);
  } catch (error) {
    return { name: library.name, missing: (error as Error).message.split('\n')[0]! };
  }
  // Not by require(): packages need not export their package.json.
  const manifest = readFileSync(join(packages, 'node_modules', library.package, 'package.json'), 'utf8');
  const { version } = JSON.parse(manifest) as { version: string };
  const cpu = process.cpuUsage();
  const start = performance.now();
  const built = await library.build(module, data, folder);
  const buildSeconds = (performance.now() - start) / 1000;
  const buildCpuSeconds = cpuSeconds(cpu);
  const points: Point[] = [];
  for (const effort of EFFORTS) {
    await built.search(effort);
    let best = Infinity;
    let bestCpu = Infinity;
    let found: number[][] = [];
    for (let time = 0; time < 3; time++) {
      const from = performance.now();
      const cpuFrom = process.cpuUsage();
      found = await built.search(effort);
      best = Math.min(best, (performance.now() - from) / 1000);
      bestCpu = Math.min(bestCpu, cpuSeconds(cpuFrom));
    }
    const hits = found.reduce((sum, ids, q) => sum + ids.filter((id) => data.truth[q]!.has(id)).length, 0);
    points.push({
      effort,
      recall: Number((hits / (QUERIES * NEIGHBOURS)).toFixed(4)),
      queriesPerSecond: Math.round(QUERIES / best),
      queriesPerCpuSecond: Math.round(QUERIES / bestCpu),
    });
  }
  const at = Object.fromEntries(
    TARGETS.map((target) => [
      `recall ${target}`,
      points.find(({ recall }) => recall >= target)?.queriesPerCpuSecond ?? null,
    ]),
  );
  return {
    name: library.name,
    version,
    buildSeconds: Number(buildSeconds.toFixed(2)),
    buildCpuSeconds: Number(buildCpuSeconds.toFixed(2)),
    megabytes: Number((built.bytes() / 1e6).toFixed(1)) || null,
    queriesPerCpuSecondAt: at,
    points,
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { rows: { type: 'string' }, packages: { type: 'string' }, out: { type: 'string' } },
  });
  const packages = resolve(values.packages ?? join(__dirname, '..', '.cache', 'ann-index'));
  const data = makeData(Number(values.rows ?? '100000'));
  setThreads(1);
  const folder = mkdtempSync(join(tmpdir(), 'kontrast-ann-'));
  try {
    const libraries = [];
    for (const library of [usearch('f32'), usearch('bf16'), usearch('i8'), hnswlib, lancedb]) {
      const result = await measure(library, data, packages, folder);
      process.stdout.write(`${JSON.stringify(result)}\n`);
      libraries.push(result);
    }
    const result = {
      machine: describeMachine(),
      commit: describeCommit(join(__dirname, '..', '..')),
      rows: data.rows,
      dimension: DIMENSION,
      neighbours: NEIGHBOURS,
      exactQueriesPerCpuSecond: Math.round(await exact(data)),
      libraries,
      notMeasured: {
        'faiss-node 0.5.1':
          'does not install from npm alone: its install script fetches a binary, or the sources of faiss, from elsewhere',
      },
    };
    if (values.out !== undefined) writeFileAtomic(values.out, `${JSON.stringify(result, null, 1)}\n`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

void main();
