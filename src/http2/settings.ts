import { ConnectionError, ErrorCode } from './errors.ts';

/** SETTINGS identifiers, RFC 9113 section 6.5.2. */
export const SettingId = {
  HEADER_TABLE_SIZE: 0x1,
  ENABLE_PUSH: 0x2,
  MAX_CONCURRENT_STREAMS: 0x3,
  INITIAL_WINDOW_SIZE: 0x4,
  MAX_FRAME_SIZE: 0x5,
  MAX_HEADER_LIST_SIZE: 0x6,
} as const;

export const DEFAULT_HEADER_TABLE_SIZE = 4096; // octets
export const DEFAULT_WINDOW = 65_535; // octets
export const MAX_WINDOW = 2 ** 31 - 1; // octets
export const MIN_MAX_FRAME_SIZE = 16_384; // octets
export const MAX_MAX_FRAME_SIZE = 2 ** 24 - 1; // octets

/** One end's settings; the initial values are the RFC's. */
export interface Settings {
  headerTableSize: number;
  enablePush: boolean;
  maxConcurrentStreams: number;
  initialWindowSize: number;
  maxFrameSize: number;
  maxHeaderListSize: number;
}

export const initialSettings = (): Settings => ({
  headerTableSize: DEFAULT_HEADER_TABLE_SIZE,
  enablePush: true,
  maxConcurrentStreams: Number.POSITIVE_INFINITY,
  initialWindowSize: DEFAULT_WINDOW,
  maxFrameSize: MIN_MAX_FRAME_SIZE,
  maxHeaderListSize: Number.POSITIVE_INFINITY,
});

export const SETTING_LENGTH = 6; // octets: identifier u16, value u32

/**
 * Applies one SETTINGS payload of the peer to `settings`, in order (RFC 9113 section 6.5.3), and tells
 * `onTableSize` of each header table size on the way. `role` is ours. Unknown identifiers are ignored. Throws
 * ConnectionError for values out of range.
 */
export function applySettings(
  settings: Settings,
  role: 'client' | 'server',
  buf: Buffer,
  start: number,
  end: number,
  onTableSize: (octets: number) => void,
): void {
  for (let at = start; at < end; at += SETTING_LENGTH) {
    const value = buf.readUInt32BE(at + 2);
    switch (buf.readUInt16BE(at)) {
      case SettingId.HEADER_TABLE_SIZE:
        settings.headerTableSize = value;
        onTableSize(value);
        break;
      case SettingId.ENABLE_PUSH:
        // A server must not set it to 1.
        if (value > (role === 'server' ? 1 : 0)) {
          throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, `SETTINGS_ENABLE_PUSH of ${value}`);
        }
        settings.enablePush = value === 1;
        break;
      case SettingId.MAX_CONCURRENT_STREAMS:
        settings.maxConcurrentStreams = value;
        break;
      case SettingId.INITIAL_WINDOW_SIZE:
        if (value > MAX_WINDOW) {
          const message = 'SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1';
          throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, message);
        }
        settings.initialWindowSize = value;
        break;
      case SettingId.MAX_FRAME_SIZE:
        if (value < MIN_MAX_FRAME_SIZE || value > MAX_MAX_FRAME_SIZE) {
          throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'SETTINGS_MAX_FRAME_SIZE out of range');
        }
        settings.maxFrameSize = value;
        break;
      case SettingId.MAX_HEADER_LIST_SIZE:
        settings.maxHeaderListSize = value;
        break;
      default:
        break;
    }
  }
}

/** The identifier-value pairs in which `settings` differ from the RFC's initial values. */
export function settingPairs(settings: Settings): Array<[id: number, value: number]> {
  const initial = initialSettings();
  const pairs: Array<[number, number]> = [];
  const add = (id: number, value: number, unlike: number): void => {
    if (value !== unlike) pairs.push([id, value]);
  };
  add(SettingId.HEADER_TABLE_SIZE, settings.headerTableSize, initial.headerTableSize);
  add(SettingId.ENABLE_PUSH, settings.enablePush ? 1 : 0, 1);
  add(SettingId.MAX_CONCURRENT_STREAMS, settings.maxConcurrentStreams, initial.maxConcurrentStreams);
  add(SettingId.INITIAL_WINDOW_SIZE, settings.initialWindowSize, initial.initialWindowSize);
  add(SettingId.MAX_FRAME_SIZE, settings.maxFrameSize, initial.maxFrameSize);
  add(SettingId.MAX_HEADER_LIST_SIZE, settings.maxHeaderListSize, initial.maxHeaderListSize);
  return pairs;
}
