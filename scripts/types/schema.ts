/** Reads the text form of LibTorch's operator schemas (`toString(FunctionSchema)`), without judging what is usable. */

export interface Argument {
  /** LibTorch's type without its alias annotation: `Tensor?`, `SymInt[2]`, `Scalar`. */
  type: string;
  name: string;
  /** The default as the schema writes it; undefined where there is none. */
  default: string | undefined;
  keywordOnly: boolean;
  /** Whether the operator writes to it: `Tensor(a!)`. */
  written: boolean;
}

export interface Result {
  type: string;
  name: string | undefined;
}

export interface Schema {
  /** The whole schema, as LibTorch prints it. */
  text: string;
  namespace: string;
  name: string;
  /** The overload's name; empty for the plain one. */
  overload: string;
  arguments: Argument[];
  results: Result[];
}

const alias = /\(([a-z*|]*)(!?)(?: -> [a-z*|!]*)?\)/;

export function parseSchema(text: string): Schema {
  const match = /^([A-Za-z0-9_]+)::([A-Za-z0-9_]+)(?:\.([A-Za-z0-9_]+))?\((.*)\) -> (.*)$/.exec(text);
  if (!match) throw new Error(`Not an operator schema: ${text}`);
  const [, namespace, name, overload = '', argumentText, resultText] = match;

  let keywordOnly = false;
  const list: Argument[] = [];
  for (const part of splitTop(argumentText)) {
    if (part === '*') {
      keywordOnly = true;
      continue;
    }
    const written = alias.exec(part)?.[2] === '!';
    const fields = /^(\S+) ([A-Za-z0-9_]+)(?:=(.*))?$/s.exec(part.replace(alias, ''));
    if (!fields) throw new Error(`Not an argument: "${part}" in ${text}`);
    list.push({ type: fields[1], name: fields[2], default: fields[3], keywordOnly, written });
  }

  const tuple = /^\((.*)\)$/.exec(resultText);
  const results = splitTop(tuple ? tuple[1] : resultText).map((part): Result => {
    const [type, resultName] = part.replace(alias, '').split(' ');
    return { type, name: resultName };
  });
  return { text, namespace, name, overload, arguments: list, results };
}

/** Splits at the commas that stand outside brackets and quotes. */
function splitTop(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let quoted = false;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '"') quoted = !quoted;
    else if (quoted) continue;
    else if (character === '(' || character === '[') depth++;
    else if (character === ')' || character === ']') depth--;
    else if (character === ',' && depth === 0) {
      parts.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  const last = text.slice(start).trim();
  if (last !== '') parts.push(last);
  return parts;
}
