package redis

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

// stepReply is what the script answers to a step.
type stepReply struct {
	born    string // "" if nothing ever happened to the document
	number  int64  // of the last notice
	notice  *notice
	more    bool // there is another portion
	twice   bool
	outcome realtime.DocumentOutcome

	standing *realtime.DocumentStanding
}

// errReply is about an answer that our script does not give.
var errReply = errors.New("redis: not an answer of a document")

// readReply reads {head, notice, refusal, standing}.
func readReply(m rueidis.RedisMessage) (*stepReply, error) {
	parts, err := m.ToArray()
	if err != nil || len(parts) != 4 {
		return nil, errReply
	}
	head, err1 := parts[0].ToString()
	text, err2 := parts[1].ToString()
	refusal, err3 := parts[2].AsStrSlice()
	if err := cmp.Or(err1, err2, err3); err != nil {
		return nil, errors.Join(errReply, err)
	}
	r := &stepReply{}
	if err := r.readHead(head); err != nil {
		return nil, err
	}
	if text != "" {
		if r.notice, err = readNotice(text); err != nil {
			return nil, err
		}
		if r.notice.short {
			return nil, errReply
		}
		r.outcome.Messages = r.notice.messages()
	}
	if err := r.readRefusal(refusal); err != nil {
		return nil, err
	}
	return r, r.readStanding(parts[3])
}

// readHead reads "BORN NUMBER SN MSN FLAGS".
func (r *stepReply) readHead(head string) error {
	fields := strings.Split(head, " ")
	if len(fields) != 5 {
		return errReply
	}
	if r.born = fields[0]; r.born == "-" {
		r.born = ""
	}
	var err [3]error
	r.number, err[0] = readWhole(fields[1])
	r.outcome.SequenceNumber, err[1] = readWhole(fields[2])
	r.outcome.MinimumSequenceNumber, err[2] = readWhole(fields[3])
	for _, f := range fields[4] {
		switch f {
		case 'a':
			r.outcome.Absorbed = true
		case 'c':
			r.outcome.Counts = true
		case 'm':
			r.more = true
		case 't':
			r.twice = true
		}
	}
	return cmp.Or(err[:]...)
}

// readRefusal reads {index, code, type, message, reason, retryAfter}, or nothing.
func (r *stepReply) readRefusal(fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	if len(fields) != 6 {
		return errReply
	}
	at, err1 := readWhole(fields[0])
	code, err2 := readWhole(fields[1])
	retry, err3 := readWhole(fields[5])
	r.outcome.Refused = int(at)
	r.outcome.Refusal = &realtime.DocumentRefusal{Code: int(code), Type: fields[2], Message: fields[3], Reason: fields[4], RetryAfter: int(retry)}
	return cmp.Or(err1, err2, err3)
}

// readStanding reads {MSN of the last message, summaries, places, objects}, or nothing.
func (r *stepReply) readStanding(m rueidis.RedisMessage) error {
	parts, err := m.ToArray()
	if err != nil || len(parts) == 0 {
		return err
	}
	if len(parts) != 4 {
		return errReply
	}
	sent, err1 := parts[0].ToString()
	marks, err2 := parts[1].AsStrSlice()
	places, err3 := parts[2].AsStrMap()
	objects, err4 := parts[3].AsStrMap()
	msn, err5 := readWhole(sent)
	if err := cmp.Or(err1, err2, err3, err4, err5); err != nil {
		return errors.Join(errReply, err)
	}
	s := &realtime.DocumentStanding{MSN: r.outcome.MinimumSequenceNumber}
	s.SequenceNumber, s.MinimumSequenceNumber = r.outcome.SequenceNumber, msn
	if s.SequenceNumber > 0 {
		s.Epoch = r.born
	}
	if s.Summaries, err = readMarks(marks); err != nil {
		return err
	}
	if s.Clients, err = readClients(places, objects); err != nil {
		return err
	}
	for _, c := range s.Clients {
		if c.Mode == "write" {
			s.Open = append(s.Open, c.ID)
		}
	}
	r.standing = s
	if r.notice != nil { // the step was a join
		r.outcome.Standing = s
	}
	return nil
}

// readMarks reads {handle, number, covered} of two summaries, or nothing.
func readMarks(fields []string) (marks [2]realtime.SummaryMark, err error) {
	if len(fields) == 0 {
		return marks, nil
	}
	if len(fields) != 6 {
		return marks, errReply
	}
	for i := range marks {
		three := fields[3*i:]
		sn, err1 := readWhole(three[1])
		covered, err2 := readWhole(three[2])
		if err := cmp.Or(err1, err2); err != nil {
			return marks, errReply
		}
		marks[i] = realtime.SummaryMark{Handle: three[0], SequenceNumber: sn, Covered: covered}
	}
	return marks, nil
}

// readClients reads who is there; a place is "ORDER MODE NODE".
func readClients(places, objects map[string]string) ([]realtime.DocumentClient, error) {
	type arrival struct {
		order int64
		realtime.DocumentClient
	}
	var all []arrival
	for id, place := range places {
		order, rest, _ := strings.Cut(place, " ")
		mode, node, ok := strings.Cut(rest, " ")
		n, err := readWhole(order)
		if err != nil || !ok || mode != "read" && mode != "write" {
			return nil, errReply
		}
		all = append(all, arrival{n, realtime.DocumentClient{ID: id, Node: node, Mode: mode, Object: json.RawMessage(objects[id])}})
	}
	slices.SortFunc(all, func(a, b arrival) int { return cmp.Compare(a.order, b.order) })
	var clients []realtime.DocumentClient
	for _, a := range all {
		clients = append(clients, a.DocumentClient)
	}
	return clients, nil
}

// addTo returns the outcome of a step of which all is that of the portions before.
func (r *stepReply) addTo(all *realtime.DocumentOutcome) *realtime.DocumentOutcome {
	if all == nil {
		return &r.outcome
	}
	r.outcome.Messages = append(all.Messages, r.outcome.Messages...)
	return &r.outcome
}

// readRecords reads what the script that reads answers: a head and a text for each
// message. A hole, which trimming may have made, ends the page.
func readRecords(m rueidis.RedisMessage) ([]record, error) {
	flat, err := m.AsStrSlice()
	if err != nil || len(flat)%2 != 0 {
		return nil, errReply
	}
	var all []record
	for i := 0; i < len(flat); i += 2 {
		r, err := readRecord(flat[i], flat[i+1])
		if err != nil {
			return nil, err
		}
		if n := len(all); n > 0 && r.message().SequenceNumber != all[n-1].message().SequenceNumber+1 {
			return all, nil
		}
		all = append(all, r)
	}
	return all, nil
}
