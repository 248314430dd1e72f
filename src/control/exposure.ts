/** What is said of apps that answer in plaintext, by sidecars and the controller alike. */

/** What closes it. */
export const EXPOSURE_CURE =
  'bind the app to 127.0.0.1, or admit only the ports of the sidecar by a NetworkPolicy, which this check cannot see, or use transparent mode';

/** Of each of the lists of a ReportRequest. */
export const MAX_REPORTED_PORTS = 64;
