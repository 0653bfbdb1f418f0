package realtime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Events of the document channel (document.md section 2.4).
const (
	eventConnect       = "connect_document"
	eventConnected     = "connect_document_success"
	eventConnectFailed = "connect_document_error"
	eventSubmitOp      = "submitOp"
	eventSubmitSignal  = "submitSignal"
	eventNoop          = "noop"
	eventRequestOps    = "requestOps"
	eventOp            = "op"
	eventSignal        = "signal"
	eventNack          = "nack"
)

// Modes of a connection to a document.
const (
	modeRead  = "read"
	modeWrite = "write"
)

// typeOp is the type of an op that names none.
const typeOp = "op"

// jsonNull is what stands for a value that is not there.
var jsonNull = json.RawMessage("null")

// proposal is one op as a client submitted it. Its values are parts of the
// submission's text, nil where there is none.
type proposal struct {
	raw         json.RawMessage // the whole op, for nacks
	kind        string
	csn, rsn    int64
	contents    json.RawMessage
	metadata    json.RawMessage
	compression json.RawMessage
	summary     SummaryRequest // typeSummarize: what the contents say
	flaw        string         // and what is wrong with them
}

// readProposal reads one op. fault is what is wrong with it, "" if nothing is.
func readProposal(raw []byte) (p proposal, fault string) {
	p = proposal{raw: raw, kind: typeOp}
	csn, rsn, kind := false, false, true
	fields := scanObject(raw, maxNesting)
	for fields.next() {
		switch string(fields.key) {
		case "clientSequenceNumber":
			p.csn, csn = wholeNumber(fields.value)
		case "referenceSequenceNumber":
			p.rsn, rsn = wholeNumber(fields.value)
		case "type":
			if kind = isString(fields.value); kind {
				p.kind, _ = unquote(fields.value)
			}
		case "contents":
			p.contents = fields.value
		case "metadata":
			p.metadata = valueOrNil(fields.value)
		case "compression":
			p.compression = valueOrNil(fields.value)
		}
	}
	switch {
	case !fields.complete():
		return p, "not an object"
	case !csn || p.csn < 1 || p.csn > maxWhole:
		return p, "clientSequenceNumber"
	case !rsn || p.rsn < -1:
		return p, "referenceSequenceNumber"
	case !kind:
		return p, "type"
	}
	if p.kind == typeSummarize {
		p.summary, p.flaw = readSummary(p.contents)
	}
	return p, ""
}

func valueOrNil(value []byte) json.RawMessage {
	if isNull(value) {
		return nil
	}
	return value
}

// maxWhole is the largest number that every client's numbers hold exactly.
const maxWhole = 1<<53 - 1

// wholeNumber reads a number without a fraction, however it is written: clients
// whose numbers are floats may send 1.0.
func wholeNumber(value []byte) (int64, bool) {
	if !isNumber(value) {
		return 0, false
	}
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxWhole {
		return 0, false
	}
	return int64(f), true
}

// eachOp calls f for the ops in a messageBatches array: its elements, and the
// elements of those that are arrays.
func eachOp(batches []byte, f func(op []byte)) {
	outer := scanArray(batches, maxNesting)
	for outer.next() {
		if outer.value[0] != '[' {
			f(outer.value)
			continue
		}
		inner := scanArray(outer.value, maxNesting)
		for inner.next() {
			f(inner.value)
		}
	}
}

// complete completes m, whose numbers are set, by its JSON (document.md section
// 5.4). data is for messages of the server, nil for none.
func complete(m SequencedMessage, contents, data, metadata, compression []byte) SequencedMessage {
	b := make([]byte, 0, 224+len(m.ClientID)+len(m.Type)+len(contents)+len(data)+len(data)/8+len(metadata)+len(compression))
	b = appendMessageTail(appendMessageHead(b, &m), m.Type, contents, data, metadata, compression)
	m.JSON = append(strconv.AppendInt(b, m.Timestamp, 10), '}')
	return m
}

// appendMessageHead appends the text of a message up to its type.
func appendMessageHead(b []byte, m *SequencedMessage) []byte {
	b = append(b, `{"clientId":`...)
	if m.ClientID == "" {
		b = append(b, "null"...)
	} else {
		b = appendQuoted(b, m.ClientID)
	}
	b = strconv.AppendInt(append(b, `,"sequenceNumber":`...), m.SequenceNumber, 10)
	b = strconv.AppendInt(append(b, `,"minimumSequenceNumber":`...), m.MinimumSequenceNumber, 10)
	b = strconv.AppendInt(append(b, `,"clientSequenceNumber":`...), m.ClientSequenceNumber, 10)
	return strconv.AppendInt(append(b, `,"referenceSequenceNumber":`...), m.ReferenceSequenceNumber, 10)
}

// appendMessageTail appends the text of a message from its type to before its
// timestamp, which is the same wherever it gets its numbers.
func appendMessageTail(b []byte, kind string, contents, data, metadata, compression []byte) []byte {
	b = appendQuoted(append(b, `,"type":`...), kind)
	if contents == nil {
		contents = jsonNull
	}
	b = append(append(b, `,"contents":`...), contents...)
	if data != nil {
		b = appendQuoted(append(b, `,"data":`...), string(data))
	}
	if metadata != nil {
		b = append(append(b, `,"metadata":`...), metadata...)
	}
	if compression != nil {
		b = append(append(b, `,"compression":`...), compression...)
	}
	return append(b, `,"timestamp":`...)
}

// joinContents are the contents of a join message, leaveContents of a leave.
func joinContents(id string, client []byte) []byte {
	b := appendQuoted([]byte(`{"clientId":`), id)
	b = append(append(b, `,"detail":`...), client...)
	return append(b, '}')
}

func leaveContents(id string) []byte { return appendQuoted(nil, id) }

// joinSignal is the data of the signal that tells the others of a new client,
// leaveSignal that of its end (document.md section 8.4).
func joinSignal(id string, client []byte) json.RawMessage {
	content := appendQuoted([]byte(`{"type":"join","content":{"clientId":`), id)
	content = append(append(content, `,"client":`...), client...)
	return signalData("", appendQuoted(nil, string(append(content, "}}"...))))
}

func leaveSignal(id string) json.RawMessage {
	content := append(appendQuoted([]byte(`{"type":"leave","content":`), id), '}')
	return signalData("", appendQuoted(nil, string(content)))
}

// signalData is the data of a signal event: exactly these two keys. from is "" for
// the server.
func signalData(from string, content []byte) json.RawMessage {
	b := make([]byte, 0, 32+len(from)+len(content))
	b = append(b, `{"clientId":`...)
	if from == "" {
		b = append(b, "null"...)
	} else {
		b = appendQuoted(b, from)
	}
	return append(append(append(b, `,"content":`...), content...), '}')
}

// opData is the data of an op event. It holds the messages' own bytes.
func opData(document string, messages []SequencedMessage) json.RawMessage {
	b := appendQuoted(make([]byte, 0, 48+len(document)+bytesOf(messages)), document)
	b = slices.Insert(b, 0, []byte(`{"documentId":`)...)
	return append(appendMessages(append(b, `,"op":`...), messages), '}')
}

func appendMessages(b []byte, messages []SequencedMessage) []byte {
	b = append(b, '[')
	for i, m := range messages {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, m.JSON...)
	}
	return append(b, ']')
}

// bytesOf is how many bytes messages take in an array.
func bytesOf(messages []SequencedMessage) (n int) {
	for _, m := range messages {
		n += len(m.JSON) + 1
	}
	return n
}

// nack is a refusal of a submission (document.md section 5.5). The number is −1
// from the gate, else the MSN.
type nack struct {
	refusal
	operation      json.RawMessage // nil for none
	sequenceNumber int64
}

// data is the nack as it is sent: Levee's list, and beside it what Fluid reads.
func (n *nack) data() json.RawMessage {
	operation := n.operation
	if operation == nil {
		operation = jsonNull
	}
	content := appendQuoted(fmt.Appendf(nil, `{"code":%d,"type":%q,"message":`, n.code, n.kind), n.message)
	if n.retryAfter > 0 {
		content = fmt.Appendf(content, `,"retryAfter":%d`, n.retryAfter)
	}
	content = append(appendQuoted(append(content, `,"reason":`...), n.reason), '}')
	one := append(append([]byte(`"operation":`), operation...), fmt.Sprintf(`,"sequenceNumber":%d,"content":`, n.sequenceNumber)...)
	one = append(one, content...)
	b := append([]byte(`{"clientId":"","nacks":[{`), one...)
	return append(append(append(b, "}],"...), one...), '}')
}

// asError is the nack as the answer to the submission.
func (n *nack) asError() *Error {
	return documentError(n.reason, n.code, n.message)
}

// documentError is the answer to a push that failed (document.md section 2.4).
func documentError(reason string, code int, text string) *Error {
	data := appendQuoted([]byte(`{"reason":`), reason)
	data = fmt.Appendf(data, `,"code":%d,"message":`, code)
	return &Error{Code: reason, Text: text, Retry: RetryNever, Data: json.RawMessage(append(appendQuoted(data, text), '}'))}
}

// object is a JSON object whose fields keep their order.
type object []objectField

type objectField struct {
	key   string
	value json.RawMessage
}

// readObject reads an object; ok is false if text is none. Of fields with one name
// the last counts.
func readObject(text []byte) (o object, ok bool) {
	fields := scanObject(text, maxNesting)
	for fields.next() {
		if o.set(string(fields.key), fields.value); len(o) > maxObjectFields {
			return nil, false
		}
	}
	return o, fields.complete()
}

// maxObjectFields bounds what is looked through field by field.
const maxObjectFields = 256

func (o object) get(key string) json.RawMessage {
	for _, f := range o {
		if f.key == key {
			return f.value
		}
	}
	return nil
}

func (o *object) set(key string, value []byte) {
	for i := range *o {
		if (*o)[i].key == key {
			(*o)[i].value = value
			return
		}
	}
	*o = append(*o, objectField{key, value})
}

// fill sets a field that is missing or null.
func (o *object) fill(key, value string) {
	if v := o.get(key); v == nil || isNull(v) {
		o.set(key, []byte(value))
	}
}

func (o object) appendTo(b []byte) []byte {
	b = append(b, '{')
	for i, f := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(appendQuoted(b, f.key), ':'), f.value...)
	}
	return append(b, '}')
}

// message is the op's message, once it has its numbers.
func (p *proposal) message(id string, t ticket, now time.Time) SequencedMessage {
	m := numbered(t, p.kind, now)
	m.ClientID = id
	return complete(m, p.contents, nil, p.metadata, p.compression)
}

// systemMessage is a message of the server. Its data is a string of its contents,
// which is what Fluid reads (document.md section 6); a noop has neither.
func systemMessage(t ticket, kind string, contents []byte, now time.Time) SequencedMessage {
	return complete(numbered(t, kind, now), contents, contents, nil, nil)
}

func numbered(t ticket, kind string, now time.Time) SequencedMessage {
	return SequencedMessage{SequenceNumber: t.sn, MinimumSequenceNumber: t.msn, ClientSequenceNumber: t.csn,
		ReferenceSequenceNumber: t.rsn, Type: kind, Timestamp: now.UnixMilli()}
}

// submission is what the sequencer looks at.
func (p *proposal) submission() submission {
	return submission{kind: p.kind, csn: p.csn, rsn: p.rsn, null: isNull(p.contents), flaw: p.flaw}
}

// readSummary reads the contents of a summarize op: an object, or a string of JSON
// that is one (document.md section 10). The flaw is for its nack.
func readSummary(contents []byte) (r SummaryRequest, flaw string) {
	if isString(contents) {
		text, _ := unquote(contents)
		contents = []byte(text)
	}
	found := map[string]bool{}
	text := func(name string, value []byte, to *string) {
		if found[name] = isString(value); found[name] {
			*to, _ = unquote(value)
		}
	}
	fields := scanObject(contents, maxNesting)
	for fields.next() {
		switch string(fields.key) {
		case "handle":
			text("handle", fields.value, &r.Handle)
		case "head":
			text("head", fields.value, &r.Head)
		case "message":
			text("message", fields.value, &r.Message)
		case "parents":
			found["parents"] = json.Unmarshal(fields.value, &r.Parents) == nil && fields.value[0] == '['
		case "details":
			if details, ok := readObject(fields.value); ok {
				r.ProtocolTree = string(details.get("includesProtocolTree")) == "true"
			}
		}
	}
	var missing []string
	for _, name := range []string{"handle", "head", "message", "parents"} {
		if !found[name] || !fields.complete() {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return r, "Invalid summarize op: missing fields: " + strings.Join(missing, ", ")
	}
	return r, ""
}

// ackContents are the contents of a summaryAck, nackContents of a summaryNack: sn is
// the number of the summarize message.
func ackContents(handle string, sn int64) []byte {
	b := appendQuoted([]byte(`{"handle":`), handle)
	return fmt.Appendf(b, `,"summaryProposal":{"summarySequenceNumber":%d}}`, sn)
}

func nackContents(sn int64, code int, text string, retryAfter int) []byte {
	b := fmt.Appendf(nil, `{"summaryProposal":{"summarySequenceNumber":%d},"code":%d,"message":`, sn, code)
	b = appendQuoted(b, text)
	if retryAfter > 0 {
		b = fmt.Appendf(b, `,"retryAfter":%d`, retryAfter)
	}
	return append(b, '}')
}

// tail is the op's message as far as it does not depend on its numbers.
func (p *proposal) tail() DocumentTail {
	b := make([]byte, 0, 96+len(p.contents)+len(p.metadata)+len(p.compression))
	return DocumentTail{p.kind, appendMessageTail(b, p.kind, p.contents, nil, p.metadata, p.compression)}
}

// systemTail is that of a message of the server; see systemMessage.
func systemTail(kind string, contents []byte) DocumentTail {
	return DocumentTail{kind, appendMessageTail(nil, kind, contents, contents, nil, nil)}
}

// interruptedTail is the message that refuses a summary whose node has died, in parts
// between which its number stands.
var interruptedTail = sync.OnceValue(func() (parts [3][]byte) {
	text := systemTail(typeSummaryNack, nackContents(maxWhole, 500, interruptedText, 0)).Text
	copy(parts[:], bytes.Split(text, fmt.Append(nil, int64(maxWhole))))
	return parts
})

// interruptedText is for summaries that a crash or a restart came between.
const interruptedText = "The session ended before the summary was decided"
