import type { WorkflowInterceptors } from '@temporalio/workflow';

/** After so long without a heartbeat the work is another worker's. */
export const heartbeatSeconds = 8;
/** Some scenarios ask for rows of one moment: whoever keeps it is given up later, also where the machine is busy. */
export const keeperSeconds = 15;

export const interceptors = (): WorkflowInterceptors => ({
  outbound: [
    {
      scheduleActivity(input, next) {
        const seconds = input.activityType === 'hold' ? keeperSeconds : heartbeatSeconds;
        return next({ ...input, options: { ...input.options, heartbeatTimeout: `${seconds}s` } });
      },
    },
  ],
});
