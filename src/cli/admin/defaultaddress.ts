/** Where a sidecar's admin socket is, unless a command says otherwise. */
export const DEFAULT_ADDRESS = 'unix:/run/hauberk/admin.sock';
