import type { Device } from '../../src/torch';

/** Where the tests run: `KONTRAST_TEST_DEVICE`, `'cpu'` by default. */
export const device = (process.env.KONTRAST_TEST_DEVICE ?? 'cpu') as Device;

/** Whether the tests run on a CUDA device, whose float32 convolutions and products may be rounded to TF32. */
export const onCuda = device.startsWith('cuda');
