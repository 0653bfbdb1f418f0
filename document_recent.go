package realtime

import "slices"

// recentMessages are the newest messages of a session, so that those who ask for
// them do not have to wait for the log.
type recentMessages struct {
	all   []SequencedMessage
	first int // index of the oldest; those before are forgotten
	bytes int
}

// recentBytes bounds them: a thousand messages of a megabyte each are for the log.
const recentBytes = 8 << 20

// add appends messages and forgets what is too much.
func (r *recentMessages) add(messages []SequencedMessage, limit int) {
	if len(r.all)+len(messages) > cap(r.all) && r.first > len(r.all)/4 {
		n := copy(r.all, r.all[r.first:])
		clear(r.all[n:])
		r.all, r.first = r.all[:n], 0
	}
	r.all = append(r.all, messages...)
	r.bytes += bytesOf(messages)
	for ; r.first < len(r.all) && (len(r.all)-r.first > limit || r.bytes > recentBytes); r.first++ {
		r.bytes -= bytesOf(r.all[r.first : r.first+1])
		r.all[r.first] = SequencedMessage{}
	}
}

// read returns a copy.
func (r *recentMessages) read(after, to int64, limit int) (messages []SequencedMessage, ok bool) {
	if after >= to {
		return nil, true
	}
	kept := r.all[r.first:]
	if len(kept) == 0 || after+1 < kept[0].SequenceNumber {
		return nil, false
	}
	from := int(after + 1 - kept[0].SequenceNumber)
	until := min(from+int(min(to-after, int64(limit))), len(kept))
	return slices.Clone(kept[from:until]), true
}
