import { native } from './native';

/** An operator's index in the addon, looked up when it is first asked for. */
export function lazyOperator(name: string): () => number {
  let index = -1;
  return () => (index < 0 ? (index = native.operator(name)) : index);
}
