package realtime

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// The kinds of messages between nodes. A number is never used for anything else
// again: nodes of two versions work side by side while one replaces the other.
const (
	nodeHello    byte = 1 // I am here: flags, TTL, when it was sent by the sender's clock
	nodeBye      byte = 2 // I leave
	nodeGone     byte = 3 // the node of this name was given up
	nodeQuestion byte = 4
	nodeAnswer   byte = 5
	nodeClose    byte = 6 // connections to be closed
	nodePush     byte = 7 // an event for some connections
	nodeSpent    byte = 8 // tokens of users and addresses that were spent

	nodePresence  byte = 32 // to 63: presence
	nodeDocuments byte = 64 // to 95: documents

	nodeRequest  byte = 96 // a request of HTTP for something that the receiver has
	nodeResponse byte = 97
	nodeAbandon  byte = 98 // nobody waits for the response any more
)

const (
	// nodeMailVersion is the first byte of what nodes send each other.
	nodeMailVersion = 1

	// maxNodeBody bounds one message; longer ones are sent in parts.
	maxNodeBody = 1 << 20

	// nodeMailBytes is how much several messages in one event may come to.
	nodeMailBytes = 64 << 10

	// maxNodeMail bounds an event between nodes: a mail with one message more than
	// nodeMailBytes, and some.
	maxNodeMail = maxNodeBody + 2*nodeMailBytes
)

var (
	errNodeMail    = errors.New("not a message between nodes")
	errNodeLong    = errors.New("realtime: too long to be sent to another node")
	errNodeVersion = errors.New("a message between nodes of another version")
)

// memo is one message to another node.
type memo struct {
	kind byte
	body []byte
}

// appendMail appends memos of from as one event's data: a JSON string of base64, as
// brokers carry bytes. Inside are a byte for the version, the sender's name, and of
// each note the kind, the length and the body.
func appendMail(from string, memos []memo) []byte {
	b := append(make([]byte, 0, 1024), nodeMailVersion)
	b = appendText(b, from)
	for _, one := range memos {
		b = binary.AppendUvarint(append(b, one.kind), uint64(len(one.body)))
		b = append(b, one.body...)
	}
	data := make([]byte, 0, base64.StdEncoding.EncodedLen(len(b))+2)
	data = base64.StdEncoding.AppendEncode(append(data, '"'), b)
	return append(data, '"')
}

// parseMail is the way back. The memos are parts of one new slice.
func parseMail(data []byte) (from string, memos []memo, err error) {
	if len(data) < 2 || len(data) > base64.StdEncoding.EncodedLen(maxNodeMail) {
		return "", nil, fmt.Errorf("%w: %d bytes", errNodeMail, len(data))
	}
	b, err := base64.StdEncoding.AppendDecode(nil, data[1:len(data)-1])
	if err != nil || len(b) == 0 {
		return "", nil, fmt.Errorf("%w: %w", errNodeMail, err)
	}
	if b[0] != nodeMailVersion {
		return "", nil, fmt.Errorf("%w: %d", errNodeVersion, b[0])
	}
	from, b, ok := cutText(b[1:])
	if !ok || !isNodeID(from) {
		return "", nil, fmt.Errorf("%w: no sender", errNodeMail)
	}
	for len(b) > 0 {
		var one memo
		one.kind, b = b[0], b[1:]
		if one.body, b, ok = cutBytes(b); !ok || len(one.body) > maxNodeBody {
			return "", nil, fmt.Errorf("%w: cut off", errNodeMail)
		}
		memos = append(memos, one)
	}
	return from, memos, nil
}

// cutBytes is cutText without a copy.
func cutBytes(b []byte) (part, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	end := n + int(size)
	return b[n:end:end], b[end:], true
}

// hello is the body of nodeHello. What follows it in a later version is ignored.
type hello struct {
	answer bool   // whoever gets it is to say hello, too
	ttl    uint64 // in milliseconds
	sent   uint64 // in microseconds since the sender began
}

func (h hello) append(b []byte) []byte {
	var flags byte
	if h.answer {
		flags = 1
	}
	b = binary.AppendUvarint(append(b, flags), h.ttl)
	return binary.AppendUvarint(b, h.sent)
}

func parseHello(b []byte) (h hello, ok bool) {
	if len(b) == 0 {
		return h, false
	}
	h.answer = b[0]&1 != 0
	b = b[1:]
	for _, field := range []*uint64{&h.ttl, &h.sent} {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > 1<<53 {
			return h, false
		}
		*field, b = v, b[n:]
	}
	return h, true
}
