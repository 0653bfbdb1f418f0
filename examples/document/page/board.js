// The board's state: a map from keys such as "n1.text" to values. An op sets some
// keys, or removes them with null; the last op in the server's order wins. Pure, so
// that the live board, the pending overlay and time travel cannot differ.

export const COLORS = ["amber", "rose", "sky", "mint", "violet"];

// apply changes map by the contents of an op. Contents are another client's words:
// what is not ours is ignored.
export function apply(map, contents) {
  let op = contents;
  try {
    if (typeof op === "string") op = JSON.parse(op);
  } catch {
    return;
  }
  if (!op?.set || typeof op.set !== "object") return;
  for (const [key, value] of Object.entries(op.set)) value === null ? map.delete(key) : map.set(key, value);
}

// overlay returns the map as it will be once the pending ops are numbered.
export function overlay(map, pending) {
  const seen = new Map(map);
  for (const op of pending) if (op.type === "op") apply(seen, op.contents);
  return seen;
}

// notes returns the notes that the map holds, oldest first.
export function notes(map) {
  const found = new Map();
  for (const [key, value] of map) {
    const dot = key.lastIndexOf(".");
    if (dot < 1) continue;
    const id = key.slice(0, dot);
    if (!found.has(id)) found.set(id, { id });
    found.get(id)[key.slice(dot + 1)] = value;
  }
  // One that was removed while another tab typed into it has no place any more.
  return [...found.values()].filter(({ at }) => Array.isArray(at) && at.every(Number.isFinite));
}

// describe says in a few words what a message does.
export function describe(m) {
  if (m.type !== "op") return "";
  try {
    const set = Object.entries(JSON.parse(m.contents).set);
    if (set.length === 0) return "nothing";
    const fields = set.map(([key]) => key.slice(key.lastIndexOf(".") + 1));
    if (set.every(([, value]) => value === null)) return "removes a note";
    if (fields.includes("color")) return "adds a note";
    if (fields[0] === "at") return "moves a note";
    return `writes “${String(set[0][1]).slice(0, 24)}”`;
  } catch {
    return "";
  }
}
