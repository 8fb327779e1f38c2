export type {
  BeforeAfter,
  Histogram,
  Projection,
  ReportCurves,
  ReportData,
  ReportFact,
  ReportFacts,
  ReportImage,
  ReportNeighbours,
  ReportSeries,
  ReportTableRow,
  ReportHistograms,
} from './data';
export { histogram, type HistogramOptions } from './histogram';
export { projectTwoDimensional, type ProjectionOptions } from './projection';
export { renderReport, writeReport } from './report';
