import { keep, torch, type Tensor } from '../../src/torch';
import type { RowExchange } from '../../src/norm';

class Waiting extends Error {}

/**
 * Runs `body` for every rank in one process, and gives what each gave. A pass over the ranks gets as far as the first exchange that is not filled
 * yet, and another pass follows; so `body` must do the same each time.
 */
export function inRanks<T>(ranks: number, body: (exchange: RowExchange) => T): T[] {
  const exchanged: Tensor[] = [];
  for (;;) {
    const sent: Tensor[] = [];
    const given: T[] = [];
    for (let rank = 0; rank < ranks; rank++) {
      let call = 0;
      const exchange: RowExchange = {
        rank,
        ranks,
        allGather(rows) {
          const known = exchanged[call++];
          if (known !== undefined) return known;
          sent.push(keep(rows));
          throw new Waiting();
        },
      };
      try {
        given.push(body(exchange));
      } catch (error) {
        if (!(error instanceof Waiting)) throw error;
      }
    }
    if (given.length === ranks) return given;
    exchanged.push(torch.cat(sent));
  }
}
