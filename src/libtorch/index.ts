/** Finds, fetches and checks LibTorch. Nothing here needs the addon, so that the addon can be built and loaded with it. */
export { cacheFolder } from './cache';
export { LibTorchNotFoundError, LibTorchSetupError, type RefusedPlace } from './errors';
export { readLibTorchFolder, type LibTorchFolder } from './folder';
export { libtorchInfo, type LibTorchInfo } from './info';
export {
  locateLibTorch,
  platformPackage,
  searchLibTorch,
  type LibTorch,
  type LibTorchSource,
  type LocateOptions,
} from './locate';
export { readBuildRecord, writeBuildRecord, type BuildRecord } from './record';
export { downloadWheels, planSetup, setupLibTorch, type SetupOptions } from './setup';
export { describePlan, type PlannedWheel, type SetupPlan } from './setup-plan';
export type { DownloadProgress } from './download-progress';
export { pinnedVersion, supportedMinors } from './version';
