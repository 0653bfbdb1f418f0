package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Message is one message of a client, as a [Handler] gets it.
type Message struct {
	Topic string          // the full name, for example "chat:lobby"
	Event string          // for example "message"; in a join function "subscribe", or "auth" after a refresh
	Data  json.RawMessage // the JSON the client sent, "null" if none; the handler's to keep

	// Binary is the payload of a message of bytes, nil for any other; the
	// handler's to keep.
	Binary []byte

	params Params
	reply  *Reply
}

// Param returns the part of the topic's name that stood at {name} in the
// pattern, "" if the pattern has no such parameter.
func (m Message) Param(name string) string { return m.params.Get(name) }

// Decode unmarshals the data into v. Its error is an [*Error] that the client is
// shown as "invalid_data", so a handler may return it as it is.
func (m Message) Decode(v any) error {
	if err := json.Unmarshal(m.Data, v); err != nil {
		return &Error{Code: CodeInvalidData, Text: m.Event + ": " + misfit(err), Retry: RetryNever}
	}
	return nil
}

// misfit says in the client's words what is wrong with its data: encoding/json
// names the types of the host.
func misfit(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("%q must not be a %s", e.Field, e.Value)
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return "the data is not valid"
	}
	return err.Error() // of the host's own UnmarshalJSON
}

// Later makes the reply independent of the handler's return: what the handler
// returns is dropped, unless it is an error, and Send answers. A client that
// wanted no answer gets none but errors. A client whose message is never answered
// waits for ever. A join cannot be answered later: there Send gives [ErrReplied].
func (m Message) Later() *Reply {
	if m.reply == nil {
		r := &Reply{}
		r.state.Store(replySent)
		return r
	}
	m.reply.state.CompareAndSwap(0, replyLater)
	return m.reply
}

// Binary is a payload of bytes, for protocols that have messages of bytes. It is
// JSON like any []byte, a base64 string, and that is what clients of the other
// protocols get.
type Binary []byte

func isBinary(payload any) bool { _, ok := payload.(Binary); return ok }

// unpack turns the data of an event that was published as bytes into these.
func (m *Message) unpack(binary bool) error {
	if !binary {
		return nil
	}
	data := m.Data
	m.Data = json.RawMessage("null")
	return json.Unmarshal(data, &m.Binary)
}

// Params are the parameters of a topic's name in the order of the pattern.
type Params []Param

// Param is one parameter of a topic's name.
type Param struct{ Name, Value string }

// Get returns the value of the parameter called name, "" if there is none.
func (p Params) Get(name string) string {
	for _, one := range p {
		if one.Name == name {
			return one.Value
		}
	}
	return ""
}

// Position is a place in a topic's stream: the events up to Offset have been
// seen. Offsets of one epoch count from 1 without a gap; a new epoch means that
// earlier offsets mean nothing any more.
type Position struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// op says what an inbound message asks for, whatever protocol it came in.
type op uint8

const (
	opEvent  op = iota // for the topic's handler
	opJoin             // data holds the join's params, "null" if none
	opLeave            //
	opPing             // to be answered by the reader, with the same data
	opAuth             // data holds {"token":…}
	opPage             // a page of history; data holds {"from":…,"limit":…}
	opAnswer           // ref holds the id of the ask
)

// inbound is one decoded message. Its strings are copies; its data may be a part
// of the payload that was decoded, which the reader has given away for good.
//
// A ref other than "" means that the client wants an answer: a protocol without
// refs sets one of its own, which its encode ignores. With opAnswer it is the id
// of the ask instead, and no answer is due.
type inbound struct {
	op      op
	topic   string
	event   string
	ref     string // "" for none, else opaque; Phoenix: the JSON text, "null" for none
	joinRef string // Phoenix only: the JSON text, "null" for none
	data    json.RawMessage
	binary  []byte    // the payload of a message of bytes, nil if there is none
	recover *Position // opJoin only: the last event the client has
}

// kind says what an outbound message is, whatever protocol it goes out in.
type kind uint8

const (
	kindEvent         kind = iota // published or pushed
	kindReply                     // data is the response
	kindError                     // err says why
	kindPong                      // data is the ping's
	kindConnected                 // data is the greeting
	kindAuthenticated             // data is {"user":…,"expires_at":…}
	kindJoined                    // data is the join function's response
	kindRefused                   // a join was refused; err says why
	kindLeft                      // the membership ended; err says why, nil if the client asked
	kindGap                       // events are missing at this place
	kindClosing                   // last message before the close frame
)

// outbound is one message to be encoded.
type outbound struct {
	kind    kind
	topic   string
	event   string
	ref     string // "" for none
	joinRef string
	data    json.RawMessage
	binary  bool   // data is the base64 string of bytes
	status  string // kindReply: "" for "ok"; Phoenix only
	offset  uint64 // kindEvent: position in the history, 0 for none
	ask     string // kindEvent: the server wants an answer that bears this id
	err     *Error // kindError, kindRefused, kindLeft
	joined  *joined
	gap     *gap
	closing *closing
}

// joined is the outcome of a join on a topic. A topic without history has no
// position.
type joined struct {
	position *Position
	recovery Recovery
}

// Recovery says how a join met the position that the client offered.
type Recovery string

// The outcomes of a join (envelope.md section 4).
const (
	RecoveryFresh    Recovery = "fresh"    // no position was offered
	RecoveryComplete Recovery = "complete" // nothing was missed
	RecoveryReplayed Recovery = "replayed" // the missed events follow
	RecoveryReload   Recovery = "reload"   // what was missed is gone: fetch state anew
)

// gap marks missing events in a member's stream. from and to are the first and
// last missing offsets, 0 when the topic keeps no history. With an epoch nothing is
// known of what is missing: the stream began anew, and goes on after offset.
type gap struct {
	dropped  uint64
	policy   string // a policy's name, gapBroker or gapReload
	from, to uint64
	unknown  bool // nobody knows how many
	epoch    string
	offset   uint64
}

// What a gap names in place of the policy that has dropped events.
const (
	gapBroker = "broker" // this node was cut off from the others
	gapReload = "reload" // the stream began anew
)

// add counts more missing events, which follow g. A gap is one run of the stream:
// all that was meant for the member between from and to is missing.
func (g *gap) add(dropped, from, to uint64) {
	if g.epoch != "" {
		g.offset = max(g.offset, to) // who reloads after it has those, too
		return
	}
	g.dropped += dropped
	g.from, g.to = min(g.from, from), max(g.to, to)
}

// join makes g one with the gap that follows it.
func (g *gap) join(next *gap) {
	if next.epoch != "" {
		*g = *next
		return
	}
	g.add(next.dropped, next.from, next.to)
	if g.epoch == "" && next.policy == gapBroker {
		g.policy, g.unknown = gapBroker, g.unknown || next.unknown
	}
}

// closing is the explained close that precedes the close frame. The delays are
// sent only with RetryNow and RetryBackoff.
type closing struct {
	code       int
	reason     Reason
	text       string
	retry      Retry
	minDelayMS int64
	jitterMS   int64
}

// codec is one wire protocol: it turns the payload of a data frame into an
// inbound message and back. A codec has no state, so one value serves all
// connections and one encoding all members that speak it.
type codec interface {
	// protocol is the name in Sec-WebSocket-Protocol and in metrics.
	protocol() string

	// answers reports whether its clients can answer an ask.
	answers() bool

	// slot is the codec's place in a published event's cache of frames, below maxCodecs.
	slot() int

	// decode returns the message in payload. An error with code
	// "invalid_message" means undecodable, and so does "invalid_utf8" of text
	// that is not UTF-8, where a protocol tells the two apart: the inbound value
	// is empty then. With any other code the inbound's op, topic and ref are set
	// and the error answers them.
	//
	// payload passes to the message: the inbound's data may alias it, so the
	// caller neither changes nor reuses it afterwards.
	decode(payload []byte, binary bool) (inbound, *Error)

	// encode appends m to dst and says in which kind of frame it goes out:
	// frameText, frameBinary, or frameNone when this protocol has no such message.
	encode(dst []byte, m *outbound) ([]byte, opcode)
}

// maxCodecs bounds the frames that one published event may cache.
const maxCodecs = 6
