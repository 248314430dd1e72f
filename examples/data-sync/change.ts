export interface Change {
  /** Counts the changes from 1 on, without a gap. */
  position: number;
  key: string;
  value: string;
}
