import type { Tensor } from '../../src/torch';
import { numbers } from '../support/close';

/** The values of each channel of [N, C, …] as plain numbers, sample by sample, position by position. */
export function channelValues(x: Tensor): number[][] {
  const [samples, channels] = x.shape as [number, number];
  const values = numbers(x);
  const positions = values.length / samples / channels;
  return Array.from({ length: channels }, (_, channel) =>
    Array.from({ length: samples * positions }, (_, i) => {
      const [sample, position] = [Math.floor(i / positions), i % positions];
      return values[(sample * channels + channel) * positions + position]!;
    }),
  );
}

export const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Biased. */
export const varianceOf = (values: readonly number[]): number => {
  const mean = meanOf(values);
  return meanOf(values.map((value) => (value - mean) ** 2));
};
