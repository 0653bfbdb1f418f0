package realtime

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
)

// signal is one signal of a client: what is delivered, and to whom (document.md
// sections 8.1 and 8.2).
type signal struct {
	content  json.RawMessage
	targeted map[string]bool // those alone, if not nil
	ignored  map[string]bool // all but those
	target   string          // that one alone, if not ""
}

// isFor reports whether a client gets the signal. The sender never does.
func (s *signal) isFor(id string) bool {
	switch {
	case s.targeted != nil:
		return s.targeted[id]
	case len(s.ignored) > 0:
		return !s.ignored[id]
	case s.target != "":
		return s.target == id
	}
	return true
}

// readSignals returns the signals in a contentBatches array, ok false if there are
// more than most or one is longer than bytes.
func readSignals(batches []byte, most, bytes int) (all []signal, ok bool) {
	n := 0
	take := func(raw []byte) bool {
		if n++; n > most {
			return false
		}
		s, fits := readSignal(raw)
		if fits && len(s.content) > bytes {
			return false
		}
		if fits {
			all = append(all, s)
		}
		return true
	}
	outer := scanArray(batches, maxNesting)
	for outer.next() {
		if outer.value[0] != '[' {
			if !take(outer.value) {
				return nil, false
			}
			continue
		}
		inner := scanArray(outer.value, maxNesting)
		for inner.next() {
			if !take(inner.value) {
				return nil, false
			}
		}
	}
	return all, true
}

// readSignal reads one signal in any of its forms, ok false for none of them.
func readSignal(raw []byte) (s signal, ok bool) {
	if isString(raw) {
		return signal{content: raw}, true
	}
	if raw[0] != '{' {
		return signal{}, false
	}
	var content, inner, contents, target json.RawMessage
	var address bool
	fields := scanObject(raw, maxNesting)
	for fields.next() {
		switch string(fields.key) {
		case "content":
			content = fields.value
		case "signal":
			inner = fields.value
		case "address":
			address = true
		case "contents":
			contents = fields.value
		case "targetClientId":
			target = fields.value
		case "targetedClients":
			s.targeted = idSet(fields.value)
		case "ignoredClients":
			s.ignored = idSet(fields.value)
		}
	}
	switch envelope := firstFields(inner, "content", "targetClientId"); {
	case content != nil:
		s.content, s.target = content, idOf(target)
	case envelope != nil:
		s.content, s.target = envelope[0], idOf(envelope[1])
	case address || contents != nil:
		s = signal{}
		if old := firstFields(contents, "content"); old != nil {
			s.content = old[0]
		}
	}
	return s, s.content != nil
}

// firstFields returns fields of an object, nil if text is none or is empty.
func firstFields(text []byte, names ...string) (values []json.RawMessage) {
	fields := scanObject(text, maxNesting)
	for fields.next() {
		if values == nil {
			values = make([]json.RawMessage, len(names))
		}
		for i, name := range names {
			if string(fields.key) == name {
				values[i] = fields.value
			}
		}
	}
	return values
}

// idSet returns the strings in an array, nil if value is none.
func idSet(value []byte) map[string]bool {
	if value[0] != '[' {
		return nil
	}
	ids := map[string]bool{}
	elements := scanArray(value, maxNesting)
	for elements.next() {
		if id := idOf(elements.value); id != "" {
			ids[id] = true
		}
	}
	return ids
}

func idOf(value []byte) string {
	if !isString(value) {
		return ""
	}
	id, _ := unquote(value)
	return id
}

// appendSignals appends signals as they travel from one node to another: of each what
// it is for, its contents, and the clients.
func appendSignals(b []byte, all []signal) []byte {
	for i := range all {
		s := &all[i]
		switch {
		case s.targeted != nil:
			b = appendIDs(append(b, signalTargeted), s.targeted)
		case len(s.ignored) > 0:
			b = appendIDs(append(b, signalIgnored), s.ignored)
		case s.target != "":
			b = appendIDs(append(b, signalTargeted), map[string]bool{s.target: true})
		default:
			b = append(b, signalToAll)
		}
		b = append(binary.AppendUvarint(b, uint64(len(s.content))), s.content...)
	}
	return b
}

// Whom a signal is for.
const (
	signalToAll    byte = 0
	signalTargeted byte = 1
	signalIgnored  byte = 2
)

func appendIDs(b []byte, ids map[string]bool) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		b = appendText(b, id)
	}
	return b
}

// parseSignals reads what appendSignals wrote, ok false for anything else.
func parseSignals(b []byte) (all []signal, ok bool) {
	for len(b) > 0 {
		var s signal
		var content string
		to := b[0]
		if b = b[1:]; to > signalIgnored {
			return nil, false
		}
		if to != signalToAll {
			var ids map[string]bool
			if ids, b, ok = cutIDs(b); !ok {
				return nil, false
			}
			if to == signalTargeted {
				s.targeted = ids
			} else {
				s.ignored = ids
			}
		}
		if content, b, ok = cutText(b); !ok || !json.Valid([]byte(content)) {
			return nil, false
		}
		s.content = json.RawMessage(content)
		all = append(all, s)
	}
	return all, true
}

func cutIDs(b []byte) (ids map[string]bool, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)) { // each takes a byte at least
		return nil, nil, false
	}
	ids, b = map[string]bool{}, b[size:]
	for range n {
		var id string
		if id, b, ok = cutText(b); !ok {
			return nil, nil, false
		}
		ids[id] = true
	}
	return ids, b, true
}
