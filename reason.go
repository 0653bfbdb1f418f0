package realtime

import (
	"errors"
	"fmt"
	"time"
)

// Reason names why a connection ended. It is an error, so that a cause can be
// compared with errors.Is; it is also the metric label, the text of the close
// frame and the `reason` of the `closing` message, the same word in all of them.
type Reason string

// The reasons (envelope.md section 6). Their codes, their retry hints and the
// words for people are in the table that [Reasons] returns.
const (
	ReasonUnauthenticated  Reason = "unauthenticated"
	ReasonTokenExpired     Reason = "token_expired"
	ReasonTokenInvalid     Reason = "token_invalid"
	ReasonOriginNotAllowed Reason = "origin_not_allowed"
	ReasonRateLimited      Reason = "rate_limited"
	ReasonInvalidMessage   Reason = "invalid_message"
	ReasonForbidden        Reason = "forbidden"
	ReasonSlowConsumer     Reason = "slow_consumer"
	ReasonHeartbeatTimeout Reason = "heartbeat_timeout"
	ReasonReplaced         Reason = "replaced"
	ReasonDisconnected     Reason = "disconnected"
	ReasonShutdown         Reason = "shutdown"
	ReasonOverloaded       Reason = "overloaded"
	ReasonMessageTooLarge  Reason = "message_too_large"
	ReasonProtocolError    Reason = "protocol_error"
	ReasonInternal         Reason = "internal"
	ReasonClientClosed     Reason = "client_closed"
	ReasonConnectionLost   Reason = "connection_lost"
)

// Retry tells a client what to do after a refusal or a close.
type Retry string

// The retry hints.
const (
	RetryNever    Retry = "never"     // the same attempt will fail again
	RetryNow      Retry = "now"       // reconnect at once
	RetryBackoff  Retry = "backoff"   // reconnect, each failure doubling the wait
	RetryNewToken Retry = "new_token" // fetch a fresh token first
)

// ReasonInfo is one row of the table of closes.
type ReasonInfo struct {
	Reason Reason
	Code   int    // default close code; 0: the peer ended it, no frame is sent
	Retry  Retry  // what the client should do
	Text   string // what the client is told
	Cause  string // what an operator should look at
}

// reasons is the one table behind the Go errors, the close frames, the metric
// labels, the documentation and the doctor's words.
var reasons = [...]ReasonInfo{
	{ReasonUnauthenticated, 4001, RetryNewToken, "Authentication required", "no token came with the handshake or in time after it, or no authenticator is configured"},
	{ReasonTokenExpired, 4001, RetryNewToken, "The token has expired", "the token's exp has passed; the client should fetch a fresh one, or refresh in-band with auth"},
	{ReasonTokenInvalid, 4001, RetryNewToken, "The token is not valid", "wrong key, algorithm, audience or issuer, not yet valid, or not a token at all; the log line says which"},
	{ReasonOriginNotAllowed, 4003, RetryNever, "Origin not allowed", "the page's scheme, host and port are not in WithOrigins; the log line prints the value to add"},
	{ReasonRateLimited, 4004, RetryBackoff, "Too many messages", "the client went on sending after its soft answers were used up; see WithRateLimit"},
	{ReasonInvalidMessage, 4005, RetryNever, "Message could not be understood", "several undecodable messages in a row: a client that speaks another protocol or a broken encoder"},
	{ReasonForbidden, 4006, RetryNever, "Not allowed", "the identity is known but may not connect here"},
	{ReasonSlowConsumer, 4008, RetryNow, "The connection could not keep up", "the outbound queue passed its bound on a topic whose policy is to close: a slow network or a suspended tab"},
	{ReasonHeartbeatTimeout, 4009, RetryNow, "No sign of life", "the peer answered no ping: sleep, a lost network, or a proxy that drops idle connections"},
	{ReasonReplaced, 4010, RetryNever, "Replaced by a newer connection", "the user opened more connections than WithConnectionLimits allows and the newest wins"},
	{ReasonDisconnected, 4011, RetryNever, "Disconnected by the server", "the application called Disconnect"},
	{ReasonShutdown, 1012, RetryBackoff, "The server is restarting", "a drain: Shutdown was called"},
	{ReasonOverloaded, 1013, RetryBackoff, "The server is at its limit", "admission control: connection limit or accept rate; or the broker is out of reach"},
	{ReasonMessageTooLarge, 1009, RetryNever, "Message too large", "one message was over WithMessageBytes, decompressed"},
	{ReasonProtocolError, 1002, RetryBackoff, "WebSocket protocol error", "frames against RFC 6455: a broken client or a proxy that damages frames"},
	{ReasonInternal, 1011, RetryBackoff, "Internal error", "a fault of the server or of the application's authenticator; the log line has the error"},
	{ReasonClientClosed, 0, RetryNow, "Closed by the client", "the peer sent a close frame: a closed tab, a navigation, or the application's own close"},
	{ReasonConnectionLost, 0, RetryNow, "Connection lost", "the socket ended without a close frame: network loss, a killed process, or a proxy's idle timeout"},
}

// Reasons returns the table of closes: every reason with its default code, its
// retry hint and its words. The slice is the caller's.
func Reasons() []ReasonInfo {
	return append([]ReasonInfo(nil), reasons[:]...)
}

// Error returns the words of the table after the reason's name.
func (r Reason) Error() string {
	return fmt.Sprintf("realtime: %s: %s", string(r), r.info().Text)
}

func (r Reason) info() ReasonInfo {
	for _, row := range reasons {
		if row.Reason == r {
			return row
		}
	}
	return ReasonInfo{Reason: r, Code: 1011, Retry: RetryBackoff, Text: string(r)}
}

// Codes of `error` and `subscription_error` messages (envelope.md section 5)
// that are not also reasons for a close.
const (
	CodeInvalidData       = "invalid_data"
	CodeUnknownChannel    = "unknown_channel"
	CodeUnknownEvent      = "unknown_event"
	CodeNotSubscribed     = "not_subscribed"
	CodeAlreadySubscribed = "already_subscribed"
	CodeTooManyChannels   = "too_many_channels"
	CodeNoHistory         = "no_history"
	CodeJoinTimeout       = "join_timeout"
	CodeUnavailable       = "unavailable" // see ErrBrokerDown
)

// Error is an answer meant for the client: a handler, join function or
// authenticator returns one, wrapped or not, and the client reads Code and Text
// as they stand. Any other error is logged and answered as "internal".
type Error struct {
	Code       string        // for programs: a reason, a code of this package, or the host's own
	Text       string        // for people
	Retry      Retry         // empty means never in an answer, and the reason's own hint in a close
	RetryAfter time.Duration // sent if positive, in whole milliseconds, rounded up; in a close a least delay
	Data       any           // details for programs, as JSON, nil for none; in Phoenix the whole response; left out if it is no JSON
}

func (e *Error) Error() string { return "realtime: " + e.Code + ": " + e.Text }

// Reject returns an [*Error] with code "forbidden" and text, which the client
// is shown.
func Reject(text string) *Error {
	return &Error{Code: string(ReasonForbidden), Text: text, Retry: RetryNever}
}

// codeLabel is how a code stands in metrics: "host" for one of the host's own,
// of which there could be any number.
func codeLabel(code string) string {
	switch code {
	case "ok", CodeInvalidData, CodeUnknownChannel, CodeUnknownEvent, CodeNotSubscribed, CodeAlreadySubscribed, CodeTooManyChannels, CodeNoHistory, CodeJoinTimeout, CodeUnavailable:
		return code
	}
	for _, row := range reasons {
		if string(row.Reason) == code {
			return code
		}
	}
	return "host"
}

// ErrServerClosed is returned by [Server.Publish] after [Server.Shutdown].
var ErrServerClosed = errors.New("realtime: server closed")

// clientError returns what a client may see of err: the *Error or Reason in its
// chain, else "internal".
func clientError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if r, ok := errors.AsType[Reason](err); ok {
		return r.asError()
	}
	return ReasonInternal.asError()
}

// asError returns the reason as an answer to one message.
func (r Reason) asError() *Error {
	row := r.info()
	return &Error{Code: string(r), Text: row.Text, Retry: row.Retry}
}

// authError is what an authenticator's error means: a plain one is the token's
// fault, or that of having none.
func authError(err error, hadToken bool) error {
	_, isError := errors.AsType[*Error](err)
	_, isReason := errors.AsType[Reason](err)
	switch {
	case isError, isReason:
		return err
	case hadToken:
		return errors.Join(ReasonTokenInvalid, err)
	}
	return errors.Join(ReasonUnauthenticated, err)
}

// refusalOf says why a connection ends over an authentication's error, and what
// the client is told: an [Error] with a code of the host's own is a token that
// is not valid.
func refusalOf(err error) (Reason, *Error) {
	if e, ok := errors.AsType[*Error](err); ok {
		for _, row := range reasons {
			if string(row.Reason) == e.Code {
				return row.Reason, e
			}
		}
		return ReasonTokenInvalid, e
	}
	if r, ok := errors.AsType[Reason](err); ok {
		return r, r.asError()
	}
	return ReasonInternal, ReasonInternal.asError()
}
