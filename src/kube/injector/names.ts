// What pods are told and marked with. Everything that the injector adds has one of these names, so that it is found again.

/** Prefix of all labels and annotations. */
export const PREFIX = 'hauberk.mesh/';
export const INJECT = `${PREFIX}inject`;
/** Label of an injected pod, always `true`: discovery and monitors select by it. */
export const INJECTED = `${PREFIX}injected`;
/** Annotations that the injector writes. */
export const VERSION = `${PREFIX}version`;
export const STATUS = `${PREFIX}status`;
export const PORT = `${PREFIX}port`;
/** Names after the prefix that the injector writes and nobody else. */
export const WRITTEN: readonly string[] = ['injected', 'version', 'status', 'port'];
/** The container that kubectl means where nobody names one. */
export const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container';

export const PROXY = 'hauberk-proxy';
export const CAPTURE = 'hauberk-capture';
export const OWN_CONTAINERS: readonly string[] = [PROXY, CAPTURE];

export const RUN_VOLUME = 'hauberk-run';
export const TOKEN_VOLUME = 'hauberk-token';
export const IDENTITY_VOLUME = 'hauberk-identity';
export const OWN_VOLUMES: readonly string[] = [RUN_VOLUME, TOKEN_VOLUME, IDENTITY_VOLUME];

export const RUN_FOLDER = '/run/hauberk';
export const TOKEN_FOLDER = '/var/run/secrets/hauberk';
/** Where Kubernetes itself mounts the pod's token for the API server, in each container that has nothing there. */
export const API_ACCESS_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';
export const IDENTITY_FOLDER = '/var/run/secrets/hauberk-identity';
