/** The `kontrast` command: parses the command line and turns errors into one clear message and an exit code. */
import { Command, CommanderError, Option } from 'commander';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { inspect } from 'node:util';
import { InvalidArgumentError, KontrastError } from '../torch/errors';
import { commandName } from './command-name';
import { exitCodes } from './exit-codes';
import { checking, CommandFailure } from './failure';
import type { EmbedFlags } from './embed';
import type { EvaluateFlags } from './evaluate';
import { print } from './output';
import type { SetupFlags } from './setup';
import type { TrainFlags } from './train';
import { parseCount, parseDevice, parseSeed } from './values';

// Commands are loaded when they are run: `setup` must work before there is a LibTorch that the others could load.
const load = createRequire(__filename);

const EXIT_CODE_HELP = `
Exit codes: 0 all went well, 1 the run failed, 2 bad input (nothing was changed), 130 interrupted (the state was saved).
KONTRAST_DEBUG=1 prints stack traces.`;

/**
 * Runs the `kontrast` command.
 *
 * @param argv As `process.argv`: the first two entries are skipped.
 * @returns The exit code, see {@link exitCodes}. It never throws.
 */
export async function main(argv: string[]): Promise<number> {
  let exitCode: number = exitCodes.ok;
  const program = createProgram((code) => (exitCode = code));
  try {
    await program.parseAsync(argv);
    return exitCode;
  } catch (error) {
    // Commander has printed its message, or the help that was asked for, already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    process.stderr.write(`${describeError(error)}\n`);
    return error instanceof CommandFailure ? error.exitCode : exitCodes.failed;
  }
}

function describeError(error: unknown): string {
  const real = error instanceof CommandFailure ? error.cause : error;
  if (process.env.KONTRAST_DEBUG === '1') return `error: ${inspect(real)}`;
  if (real instanceof KontrastError) return `error: ${real.message}`;
  return `error: ${real instanceof Error ? real.message : String(real)}\n(KONTRAST_DEBUG=1 prints where it comes from)`;
}

function createProgram(setExitCode: (code: number) => void): Command {
  const program = new Command('kontrast')
    .description('Contrastive representation learning for Node.js, on LibTorch.')
    .version(readVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .enablePositionalOptions()
    .addHelpText('after', EXIT_CODE_HELP)
    .showSuggestionAfterError()
    .exitOverride();

  const device = (): Option =>
    new Option(
      '--device <device>',
      'auto (CUDA where there is some), cpu, cuda or cuda:<number> (default: auto)',
    ).argParser(parseDevice);
  const threads = (): Option =>
    new Option('--threads <number>', "threads that LibTorch computes with (default: LibTorch's choice)").argParser(
      parseCount,
    );

  program
    .command('train')
    .summary('run a recipe')
    .description(
      "Trains what a recipe says, then evaluates it. Options after the recipe's name override the recipe's own; " +
        "'kontrast train <recipe> --help' lists them.",
    )
    .usage('<recipe.ts> [options] [recipe options]')
    .argument('[recipe]', 'the recipe: a TypeScript file')
    .option('--out <folder>', "the run's folder (default: runs/<recipe's name>)")
    .option(
      '--resume',
      'go on with the run in that folder, exactly where its last checkpoint stands; other options than it was started with are refused',
    )
    .option('--overwrite', 'start the run in that folder over')
    .addOption(device())
    .addOption(new Option('--seed <number>', 'seed of all random numbers (default: 0)').argParser(parseSeed))
    .addOption(threads())
    .option('-h, --help', "print this help, and the recipe's options when one is named")
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .action(async (recipe: string | undefined, flags: TrainFlags, command: Command) => {
      if (recipe === undefined || recipe.startsWith('-')) {
        if (flags.help === true) return print(command.helpInformation().trimEnd());
        throw new CommandFailure(
          exitCodes.usage,
          new InvalidArgumentError(
            recipe === undefined
              ? `name a recipe: '${commandName()} train <recipe.ts>'; --help says more`
              : `the recipe comes before its options: '${commandName()} train <recipe.ts> ${recipe} …'`,
          ),
        );
      }
      const { train } = await checking(() => load('./train') as typeof import('./train'));
      setExitCode(await train(recipe, command.args.slice(1), flags, command));
    });

  program
    .command('evaluate')
    .summary('judge a trained run')
    .description("Runs the recipe's evaluation on a run's weights, as 'kontrast train' does at its end.")
    .argument('<run>', "a run's folder, or a checkpoint file")
    .option('--out <folder>', "where evaluation.json and the report go (default: the checkpoint's folder)")
    .option('--recipe <file>', 'the recipe, when its file has moved since the run')
    .addOption(device())
    .addOption(threads())
    .action(async (run: string, flags: EvaluateFlags) => {
      const { evaluate } = await checking(() => load('./evaluate') as typeof import('./evaluate'));
      setExitCode(await evaluate(run, flags));
    });

  program
    .command('embed')
    .summary("write the embeddings of a recipe's data")
    .description(
      "Writes the embeddings of the recipe's data sets to a safetensors file: for each set '<set>.embeddings' [N, D] float32, " +
        "and '<set>.labels' [N] int64.",
    )
    .argument('<run>', "a run's folder, or a checkpoint file")
    .requiredOption('--output <file>', 'the file to write')
    .option('--overwrite', 'replace the file if it is there')
    .option('--recipe <file>', 'the recipe, when its file has moved since the run')
    .addOption(device())
    .addOption(threads())
    .action(async (run: string, flags: EmbedFlags) => {
      const { embed } = await checking(() => load('./embed') as typeof import('./embed'));
      setExitCode(await embed(run, flags));
    });

  program
    .command('info')
    .summary('print versions, LibTorch and devices')
    .description('Prints which LibTorch is used and where it was found, its CPU capability, threads and devices.')
    .option('--json', 'print JSON')
    .action(async (flags: { json?: boolean }) => {
      await checking(() => (load('./info') as typeof import('./info')).info(flags));
    });

  program
    .command('doctor')
    .summary('say whether everything works, and how to fix what does not')
    .description(
      'Looks at versions, the system, the addon, LibTorch and where each library is from; trains a few steps and measures the speed on ' +
        'each device. The exit code is 1 if something does not work.',
    )
    .option('--json', 'print JSON, for reports')
    .action((flags: { json?: boolean }) => {
      setExitCode((load('./doctor') as typeof import('./doctor')).doctor(flags));
    });

  program
    .command('setup')
    .summary('fetch LibTorch, for the CPU or with CUDA')
    .description(
      "Finds LibTorch, or downloads it into the cache folder and checks it. No Python is needed; pip's settings say where wheels come " +
        'from. A download that was interrupted is gone on with.',
    )
    .option('--cuda', 'the build with CUDA that suits the driver and the GPUs; it is used from then on')
    .option('--variant <build>', 'that build with CUDA, such as cu126, also on a machine without a GPU')
    .option('--cpu', 'go back from a build with CUDA to the LibTorch that is found without it')
    .option('--dry-run', 'print what would be downloaded, with sizes, and change nothing')
    .option('--json', 'with --dry-run: print JSON')
    .option('-y, --yes', 'do not ask before a big download')
    .option('--force', 'download even when a LibTorch is there')
    .option('--index-url <url>', "a Python package index instead of pip's configured one")
    .option('--wheels <folder>', 'take all wheels from a folder, without a network')
    .option('--download-only <folder>', 'gather the wheels in a folder, for --wheels on another machine')
    .action(async (flags: SetupFlags) => {
      await (load('./setup') as typeof import('./setup')).setup(flags);
    });

  return program;
}

function readVersion(): string {
  const manifest = path.resolve(__dirname, '..', '..', 'package.json');
  return (JSON.parse(fs.readFileSync(manifest, 'utf8')) as { version: string }).version;
}
