package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// memory is how long a topic without members and events keeps its position, and
	// thus how long events are kept at most. It is what the broker in memory does.
	memory = 24 * time.Hour

	// memoryUnused is the same for a topic that never had an event. Clients make such
	// topics by joining them.
	memoryUnused = time.Hour

	// positions is how many messages of a topic may be none of its events: the
	// beginning of its epoch, and what keeps the position of a quiet one.
	positions = 8

	// smallest is the least number of events that the stream keeps per topic.
	smallest = 64

	// maxSubjects is how many topics one request may ask for: the server answers for
	// 1024 at most.
	maxSubjects = 512

	// maxPage bounds the messages of one page, and with maxPageBytes what it may cost
	// to read one.
	maxPage      = 256
	maxPageBytes = 4 << 20
)

// The server's own numbers for what can happen to a message.
const (
	codeWrongLast     = 10071 // wrong last sequence: N
	codeWrongLastBusy = 10164 // the same, while another message is on its way
	codeNoMessage     = 10037
	codeNoStream      = 10059
)

var (
	errConflict = errors.New("another message came first")
	errNoStream = errors.New("the stream is not there")
	errStale    = errors.New("a replica that lags behind")
)

// store is the server's stream in which the topics of one prefix keep their events,
// one subject for each topic.
type store struct {
	nc     *client.Conn
	js     jetstream.JetStream
	name   string
	prefix string
	shape  func(*jetstream.StreamConfig)

	mu   sync.Mutex // held while the stream is made or changed
	size int        // events per topic that it keeps
}

// open makes the stream, or takes the one that is there.
func (s *store) open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openLocked(ctx, max(s.size, smallest))
}

// fit has the stream keep size events of each topic.
func (s *store) fit(ctx context.Context, size int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size <= s.size {
		return nil
	}
	return s.openLocked(ctx, size)
}

// openLocked never makes the stream smaller: other nodes may need it as it is.
func (s *store) openLocked(ctx context.Context, size int) error {
	if info, err := s.js.Stream(ctx, s.name); err == nil {
		size = max(size, int(info.CachedInfo().Config.MaxMsgsPerSubject)-positions)
	}
	config := jetstream.StreamConfig{
		Name:        s.name,
		Description: "Events of realtime topics",
		Subjects:    []string{s.prefix + ".h.>"},
		Retention:   jetstream.LimitsPolicy,
		MaxAge:      memory,
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.FileStorage,
		Replicas:    1,
		Duplicates:  time.Second, // not used
		RePublish:   &jetstream.RePublish{Source: s.prefix + ".h.>", Destination: s.prefix + ".r.>"},
		AllowDirect: true,
		AllowMsgTTL: true,
	}
	if s.shape != nil {
		s.shape(&config)
	}
	config.MaxMsgsPerSubject = int64(size + positions)
	if _, err := s.js.CreateOrUpdateStream(ctx, config); err != nil {
		return fmt.Errorf("make the stream %s: %w", s.name, err)
	}
	s.size = size
	return nil
}

// stored is a message of the stream.
type stored struct {
	record
	at time.Time
}

// call asks the server's API and returns the answer's body.
func (s *store) call(ctx context.Context, subject string, ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	m, err := s.nc.RequestWithContext(ctx, "$JS.API."+subject+"."+s.name, body)
	if err != nil {
		return err
	}
	return json.Unmarshal(m.Data, answer)
}

// apiError is what the server's API says when it refuses.
type apiError struct {
	Code        int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) err() error {
	switch {
	case e == nil:
		return nil
	case e.Code == codeWrongLast || e.Code == codeWrongLastBusy:
		return errConflict
	case e.Code == codeNoStream:
		return errNoStream
	}
	return fmt.Errorf("%s (%d)", e.Description, e.Code)
}

// last returns the newest message of a topic, from the stream's leader; ok is false
// if there is none.
func (s *store) last(ctx context.Context, subject string) (m stored, ok bool, err error) {
	var answer struct {
		Error   *apiError `json:"error"`
		Message struct {
			Seq  uint64    `json:"seq"`
			Data []byte    `json:"data"`
			Time time.Time `json:"time"`
		} `json:"message"`
	}
	if err := s.call(ctx, "STREAM.MSG.GET", map[string]string{"last_by_subj": subject}, &answer); err != nil {
		return m, false, err
	}
	if answer.Error != nil && answer.Error.Code == codeNoMessage {
		return m, false, nil
	}
	if err := answer.Error.err(); err != nil {
		return m, false, err
	}
	m.at = answer.Message.Time
	if m.record, err = parseRecord(answer.Message.Data); err != nil {
		return m, false, fmt.Errorf("message %d of %s: %w", answer.Message.Seq, subject, err)
	}
	m.seq = answer.Message.Seq
	return m, true, nil
}

// append stores r as a topic's next message if the one before is still number
// expect, 0 for none, and returns its number. Otherwise the error is errConflict.
func (s *store) append(ctx context.Context, subject string, r *record, expect uint64, life time.Duration) (seq uint64, err error) {
	m := &client.Msg{Subject: subject, Data: r.append(nil), Header: client.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(expect, 10)},
	}}
	if life > 0 {
		m.Header.Set(jetstream.MsgTTLHeader, life.String())
	}
	reply, err := s.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Error  *apiError `json:"error"`
		Stream string    `json:"stream"`
		Seq    uint64    `json:"seq"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return 0, fmt.Errorf("the server's answer: %w", err)
	}
	if err := answer.Error.err(); err != nil {
		return 0, err
	}
	if answer.Stream != s.name || answer.Seq == 0 {
		return 0, fmt.Errorf("the answer came from the stream %q, not from %q", answer.Stream, s.name)
	}
	return answer.Seq, nil
}

// condition is what the heartbeat wants to know of the stream.
type condition struct {
	created time.Time
	last    uint64 // sequence of the newest message
	size    int    // events per topic
}

func (s *store) condition(ctx context.Context) (condition, error) {
	var answer struct {
		Error   *apiError `json:"error"`
		Created time.Time `json:"created"`
		Config  struct {
			Size int `json:"max_msgs_per_subject"`
		} `json:"config"`
		State struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := s.call(ctx, "STREAM.INFO", struct{}{}, &answer); err != nil {
		return condition{}, err
	}
	return condition{answer.Created, answer.State.Last, answer.Config.Size - positions}, answer.Error.err()
}

// query is a request for several messages, in the words of the server.
type query struct {
	Seq      uint64   `json:"seq,omitempty"`
	Next     string   `json:"next_by_subj,omitempty"`
	Batch    int      `json:"batch,omitempty"`
	MaxBytes int      `json:"max_bytes,omitempty"`
	Last     []string `json:"multi_last,omitempty"`
}

// page returns up to limit messages of a topic, from a sequence on, and whether
// there are more. Any replica may answer: see errStale.
func (s *store) page(ctx context.Context, subject string, from uint64, limit int) (page []stored, more bool, err error) {
	limit = min(limit, maxPage)
	end, err := s.several(ctx, query{Seq: max(from, 1), Next: subject, Batch: limit, MaxBytes: maxPageBytes}, limit, func(m *client.Msg) error {
		r, err := parseRecord(m.Data)
		if err != nil {
			return fmt.Errorf("message %s of %s: %w", m.Header.Get(jetstream.SequenceHeader), subject, err)
		}
		r.seq = number(m, jetstream.SequenceHeader)
		at, _ := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
		page = append(page, stored{r, at})
		return nil
	})
	if err != nil || end == nil {
		return nil, false, err
	}
	return page, number(end, "Nats-Num-Pending") > 0, nil
}

// changed calls f with the subjects, of those asked for, that have a message from a
// sequence on, and returns up to which sequence it has looked.
func (s *store) changed(ctx context.Context, subjects []string, from uint64, f func(subject string, seq uint64)) (upTo uint64, err error) {
	end, err := s.several(ctx, query{Seq: from, Last: subjects}, len(subjects), func(m *client.Msg) error {
		f(m.Header.Get(jetstream.SubjectHeader), number(m, jetstream.SequenceHeader))
		return nil
	})
	if end == nil {
		return from - 1, err
	}
	return number(end, "Nats-UpTo-Sequence"), err
}

// several asks for messages and calls f with each. end is the message that closes
// the answer, nil if there was nothing.
func (s *store) several(ctx context.Context, q query, most int, f func(*client.Msg) error) (end *client.Msg, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	inbox, answers := s.nc.NewInbox(), make(chan *client.Msg, most+1)
	sub, err := s.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, err
	}
	defer sub.Unsubscribe()
	if err := s.nc.PublishRequest("$JS.API.DIRECT.GET."+s.name, inbox, body); err != nil {
		return nil, err
	}
	for {
		select {
		case m := <-answers:
			switch status := m.Header.Get("Status"); status {
			case "":
				if err := f(m); err != nil {
					return nil, err
				}
			case "204":
				return m, nil
			case "404":
				return nil, nil
			default:
				return nil, fmt.Errorf("the server answers %s %s", status, m.Header.Get("Description"))
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func number(m *client.Msg, header string) uint64 {
	n, _ := strconv.ParseUint(m.Header.Get(header), 10, 64)
	return n
}

// check brings the stream's size back if another node made it smaller: two that make
// it larger at the same time can do that.
func (s *store) check(ctx context.Context, size int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size >= s.size {
		return nil
	}
	return s.openLocked(ctx, s.size)
}
