/** Queues and banks of embeddings. */
export { Queue, type QueueOptions } from './queue';
