/** Between the socket's callbacks and the loop that carries off what they bring. */
export type Bell = {
  ring(): void;
  /** Nothing more will come. */
  close(): void;
  closed(): boolean;
  /** Resolves when it was rung since the last time. */
  next(): Promise<void>;
};

export function bell(): Bell {
  let waiting: (() => void) | undefined;
  let rung = false;
  let over = false;
  const ring = () => {
    rung = true;
    waiting?.();
    waiting = undefined;
  };
  return {
    ring,
    close: () => {
      over = true;
      ring();
    },
    closed: () => over,
    async next() {
      if (!rung) {
        await new Promise<void>((resolve) => {
          waiting = resolve;
        });
      }
      rung = false;
    },
  };
}
