/** What a schedule says beside its times. */
export type ScheduleOptions = {
  readonly overlap: 'skip' | 'buffer one' | 'cancel other' | 'terminate other';
  /** Seconds: a run missed for longer than this is not made up for. */
  readonly catchUp: number;
  /** Seconds: each run starts up to so much later. */
  readonly jitter: number;
  /** No run starts in these: times of day in the schedule's zone, on those days (0 = Monday; absent: all). */
  readonly blackouts: readonly { readonly from: string; readonly to: string; readonly days?: readonly number[] }[];
};
