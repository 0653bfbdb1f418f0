package redis

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

// The scripts. KEYS[1] is the topic's hash (e: epoch, o: offset, i: id of the newest
// event, k: retention as "size age") and KEYS[2] its stream, whose entries have the
// ids OFFSET-0 and the fields b (body) and t (milliseconds of the server's clock).
var (
	//go:embed publish.lua
	publishText   string
	publishScript = rueidis.NewLuaScript(publishText)

	//go:embed read.lua
	readText   string
	readScript = rueidis.NewLuaScript(readText)

	//go:embed check.lua
	checkText   string
	checkScript = rueidis.NewLuaScript(checkText)
	checkDigest = digest(checkText)

	//go:embed renew.lua
	renewText   string
	renewScript = rueidis.NewLuaScript(renewText)

	//go:embed probe.lua
	probeText   string
	probeScript = rueidis.NewLuaScript(probeText)
)

// digest is what the server knows a script by.
func digest(script string) string {
	sum := sha1.Sum([]byte(script))
	return hex.EncodeToString(sum[:])
}

// forget is how long the position of a topic outlives its last event, as in the
// broker of a single node.
const forget = 24 * time.Hour

// forgetUnused is the same for a topic that never had an event.
const forgetUnused = 5 * time.Minute

var (
	forgetText       = millis(forget)
	forgetUnusedText = millis(forgetUnused)
)

func millis(d time.Duration) string {
	if d > 0 && d < time.Millisecond {
		d = time.Millisecond // 0 is no bound
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

func newEpoch() string { return rand.Text()[:12] }

// streamKeys are the keys of a topic's history.
func (w *way) streamKeys(topic string) []string {
	return []string{w.key("m", topic), w.key("s", topic)}
}

// publishCommand is the command that publishes within a script.
func (w *way) publishCommand(ctx context.Context) (string, error) {
	sharded, err := w.usesShards(ctx)
	if err != nil {
		return "", w.failed("publish", err)
	}
	if sharded {
		return "SPUBLISH", nil
	}
	return "PUBLISH", nil
}

// append has the script number, store and publish what a body says. size is that of
// keep; with a ? before it, a retention that is stored goes before this one, and no
// number means that nothing is kept unless there is one: the offset is 0 then.
func (w *way) append(ctx context.Context, topic, body string, keep realtime.Retention, size string) (a arrival, err error) {
	command, err := w.publishCommand(ctx)
	if err != nil {
		return a, err
	}
	doing := "publish to " + topic
	m, err := w.exec(ctx, doing, publishScript, w.streamKeys(topic), []string{
		body, size, millis(keep.Age), forgetText, w.key("c", topic), command, newEpoch()})
	if err != nil {
		return a, err
	}
	r, err := parseAnswer(m, 0)
	if err != nil {
		return a, fmt.Errorf("redis: %s: %w", doing, err)
	}
	return arrival{epoch: r.epoch, offset: r.offset, before: r.id}, nil
}

// placeOf reads an answer that begins with an epoch and an offset.
func placeOf(m rueidis.RedisMessage, doing string) (epoch string, offset uint64, err error) {
	parts, err := m.ToArray()
	if err == nil && len(parts) >= 2 {
		if epoch, err = parts[0].ToString(); err == nil {
			offset, err = parts[1].AsUint64()
		}
	}
	if err != nil || len(parts) < 2 {
		return "", 0, fmt.Errorf("redis: %s: unexpected answer: %w", doing, err)
	}
	return epoch, offset, nil
}

// page is how many events are read at a time when some are missing.
const page = 256

// read asks how a topic's stream stands and for up to limit events after an offset.
// The stream is begun if create is an epoch.
func (w *way) read(ctx context.Context, topic string, keep realtime.Retention, after uint64, limit int, create string) (*answer, error) {
	doing := "read " + topic
	m, err := w.exec(ctx, doing, readScript, w.streamKeys(topic), []string{
		strconv.FormatUint(after, 10), strconv.Itoa(limit), millis(keep.Age), create, forgetUnusedText, strconv.Itoa(keep.Size)})
	if err != nil {
		return nil, err
	}
	r, err := parseAnswer(m, limit)
	if err != nil {
		return nil, fmt.Errorf("redis: %s: %w", doing, err)
	}
	return r, nil
}

// renew gives the stream a new epoch, if it still has the one that was seen.
func (w *way) renew(ctx context.Context, topic, seen string) error {
	_, err := w.exec(ctx, "renew "+topic, renewScript, w.streamKeys(topic), []string{seen, newEpoch()})
	return err
}

// parseAnswer reads what read.lua and check.lua return: epoch, offset, id, and a page
// of offsets and bodies in turn.
func parseAnswer(m rueidis.RedisMessage, limit int) (*answer, error) {
	parts, err := m.ToArray()
	if err != nil {
		return nil, err
	}
	r := &answer{whole: true}
	if len(parts) == 0 {
		return r, nil // no such stream
	}
	if r.epoch, r.offset, err = placeOf(m, "read a stream"); err != nil {
		return nil, err
	}
	if len(parts) > 2 {
		id, _ := parts[2].ToString()
		copy(r.id[:], id)
	}
	for i := 3; i+1 < len(parts); i += 2 {
		a := arrival{epoch: r.epoch}
		number, _ := parts[i].ToString()
		if _, err := fmt.Sscanf(number, "%d-0", &a.offset); err != nil {
			return nil, errRecord
		}
		text, err := parts[i+1].ToString()
		if err != nil {
			return nil, err
		}
		if err := a.setBody(text); err != nil {
			return nil, err
		}
		r.events = append(r.events, a)
	}
	r.whole = len(r.events) < limit
	return r, nil
}

// retentionText is how a topic's hash has its retention.
func retentionText(keep realtime.Retention) string {
	return strconv.Itoa(keep.Size) + " " + millis(keep.Age)
}
