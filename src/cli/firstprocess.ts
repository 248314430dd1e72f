const ENDS = { SIGTERM: 143, SIGINT: 130 } as const;

/**
 * The kernel drops signals to the first process of a container that nobody listens to: one that comes while a command
 * still loads would be lost, and the container killed only when its grace period is over.
 */
export function listenAsFirstProcess(): void {
  if (process.pid === 1) for (const signal of Object.keys(ENDS)) process.on(signal, end);
}

function end(signal: NodeJS.Signals): void {
  // A command that ends in its own way has a listener of its own.
  if (process.listenerCount(signal) === 1) process.exit(ENDS[signal as keyof typeof ENDS]);
}
