package nats

import "strings"

const hexDigits = "0123456789ABCDEF"

// token returns a topic's name as one token of a subject: letters, digits and a few
// signs as they are, for whoever looks at the server, any other byte as = and two
// digits. It is at most three times as long, and no two names have the same.
func token(topic string) string {
	plain := 0
	for plain < len(topic) && isPlain(topic[plain]) {
		plain++
	}
	if plain == len(topic) {
		return topic
	}
	var b strings.Builder
	b.Grow(len(topic) + 16)
	b.WriteString(topic[:plain])
	for i := plain; i < len(topic); i++ {
		if c := topic[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'=', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}

// isPlain names no byte that has a meaning in a subject, and not the one that
// announces the others.
func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == ':'
}
