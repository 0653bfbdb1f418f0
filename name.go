package realtime

import (
	"crypto/rand"
	"fmt"
	"unicode/utf8"
)

// Bounds of names in bytes (envelope.md section 2). 255 is also what Phoenix's
// binary frames can carry.
const (
	maxTopicBytes = 255
	maxEventBytes = 128
)

// globalTopic is the channel that every connection is in, from its start to its
// end (envelope.md section 3).
const globalTopic = "global"

// isName reports whether s may name a channel (most being maxTopicBytes) or an
// event (maxEventBytes): 1 to most bytes of UTF-8 without U+0000–1F and 7F–9F.
func isName(s string, most int) bool {
	if len(s) == 0 || len(s) > most {
		return false
	}
	for at := range len(s) {
		// U+0080–9F are the bytes C2 80 to C2 9F.
		c := s[at]
		if c < ' ' || c == 0x7F || c == 0xC2 && at+1 < len(s) && s[at+1] < 0xA0 {
			return false
		}
	}
	return utf8.ValidString(s)
}

// checkName says what is wrong with a name that the host gave, if anything.
func checkName(name string, most int) error {
	if !isName(name, most) {
		return fmt.Errorf("realtime: name %q: want 1 to %d bytes of UTF-8 without control characters", name, most)
	}
	return nil
}

// newID returns an id that nobody can guess: 80 random bits.
func newID() string { return rand.Text()[:16] }
