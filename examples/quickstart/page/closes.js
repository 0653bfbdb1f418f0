// Why a connection ended, in words. The reasons are those of the server's table
// (realtime.Reasons); the codes serve when a proxy or a lost network took the
// server's own explanation away.

// reason: [what happened, what to do, retry]
const REASONS = {
  unauthenticated: ["The server got no credentials, or not in time.", "Send a token with the handshake, or as the first message within ten seconds.", "new_token"],
  token_expired: ["The token was valid once and has expired.", "Fetch a fresh token. A connection that stays open can refresh its token with auth.", "new_token"],
  token_invalid: ["The token was refused: wrong key, wrong algorithm, or not a token at all.", "Fetch a fresh token. The server's log says which check failed.", "new_token"],
  origin_not_allowed: ["The server does not accept connections from this page's origin.", "Add the origin, with scheme and port, to the server's list.", "never"],
  rate_limited: ["This client sent too many messages and went on after being warned.", "Send less. The limits came with the connected message.", "backoff"],
  invalid_message: ["The server could not decode several messages in a row.", "This is a fault of the client: it speaks another protocol, or its encoder is broken.", "never"],
  forbidden: ["The server knows who you are, and you may not connect here.", "Ask for access, or use another account.", "never"],
  slow_consumer: ["Messages came faster than this client took them.", "Usually a slow network or a suspended tab. Reconnecting brings back what the history kept.", "now"],
  heartbeat_timeout: ["The server heard nothing from this client and gave up.", "Usually sleep, a lost network, or a proxy that drops quiet connections.", "now"],
  replaced: ["A newer connection of the same user took this one's place.", "Close the other tab, or raise the limit of connections for a user.", "never"],
  disconnected: ["The application ended the connection on purpose.", "The text tells what the application had to say.", "never"],
  shutdown: ["The server is restarting.", "Nothing: another server will take the connection in a moment.", "backoff"],
  overloaded: ["The server is at its limit and takes no more connections right now.", "Wait. If it lasts, the server needs room.", "backoff"],
  message_too_large: ["A message was larger than the server accepts.", "Send smaller messages. The bound came with the connected message.", "never"],
  protocol_error: ["The server saw frames that break the WebSocket protocol.", "A broken client, or a proxy that damages frames.", "backoff"],
  internal: ["Something went wrong inside the server.", "The server's log has the error.", "backoff"],
  client_closed: ["This page closed the connection.", "Press Connect to come back.", "never"],
  connection_lost: ["The connection broke without a close frame.", "A lost network, a stopped server, or a proxy's idle timeout. The browser calls this 1006 and knows no more.", "now"],
};

// What a close code means when no closing message came before it.
const CODES = {
  1000: "client_closed", 1001: "shutdown", 1002: "protocol_error", 1005: "connection_lost", 1006: "connection_lost",
  1007: "invalid_message", 1008: "unauthenticated", 1009: "message_too_large", 1011: "internal", 1012: "shutdown",
  1013: "overloaded", 4001: "unauthenticated", 4003: "origin_not_allowed", 4004: "rate_limited", 4005: "invalid_message",
  4006: "forbidden", 4008: "slow_consumer", 4009: "heartbeat_timeout", 4010: "replaced", 4011: "disconnected",
};

/**
 * explain returns the words for an ended connection.
 * @param closing the data of the last closing message, or null
 * @param code the close code that the browser saw
 * @param text the text of the close frame, which is the reason's name
 */
export function explain(closing, code, text) {
  const known = (name) => Object.hasOwn(REASONS, name);
  let reason = closing?.reason ?? (known(text) ? text : CODES[code]);
  const row = known(reason) ? REASONS[reason] : null;
  reason ??= "unknown";
  return {
    code,
    reason,
    said: closing?.error ?? "",
    explained: closing !== null,
    what: row ? row[0] : `The connection ended with code ${code}, which this page does not know.`,
    todo: row ? row[1] : "The page tries again, a little later each time.",
    retry: closing?.retry ?? (row ? row[2] : "backoff"),
    minDelay: closing?.min_delay_ms,
    jitter: closing?.jitter_ms,
  };
}
