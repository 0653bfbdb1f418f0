// The two forms that a message of Phoenix has on a document socket.
import { Packr } from "msgpackr";
import type { Message } from "./watch.ts";

export type Format = "json" | "msgpack";

export interface Codec {
  readonly vsn: string;
  encode(message: Message): string | Uint8Array;
  decode(frame: string | ArrayBuffer): Message;
}

type Frame = [Message["join_ref"], Message["ref"], string, string, any];

const frame = ({ join_ref, ref, topic, event, payload }: Message): Frame => [join_ref, ref, topic, event, payload];
const message = ([join_ref, ref, topic, event, payload]: Frame): Message => ({ join_ref, ref, topic, event, payload });

const packr = new Packr({ useRecords: false });

export const codecs: Record<Format, Codec> = {
  json: {
    vsn: "2.0.0",
    encode: (m) => JSON.stringify(frame(m)),
    decode: (text) => message(JSON.parse(text as string)),
  },
  msgpack: {
    vsn: "3.0.0",
    encode: (m) => packr.pack(frame({ ...m, join_ref: m.join_ref ?? null })),
    decode: (bytes) => message(packr.unpack(new Uint8Array(bytes as ArrayBuffer))),
  },
};
