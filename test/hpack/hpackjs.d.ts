declare module 'hpack.js' {
  interface Decompressor {
    write(data: Uint8Array): void;
    /** Throws through `callback` on a bad block. */
    execute(callback?: (error: Error | null) => void): void;
    read(): { name: string; value: string; neverIndex: boolean } | null;
    on(event: 'error', listener: (error: Error) => void): void;
  }
  const hpack: {
    decompressor: { create(options: { table: { maxSize: number } }): Decompressor };
    huffman: { encode: ReadonlyArray<readonly [bits: number, code: number]> };
    'static-table': { table: ReadonlyArray<{ name: string; value: string }> };
  };
  export default hpack;
}
