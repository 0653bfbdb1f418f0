package realtime

import (
	"container/heap"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// defaultTicketLife is enough for a page that fetches a ticket in order to
	// connect, and short for whoever finds it in a proxy's log.
	defaultTicketLife = 30 * time.Second

	// maxTicketLife bounds how long a ticket may lie around unused.
	maxTicketLife = 10 * time.Minute

	// defaultTicketLimit bounds the tickets outstanding on one server, about 5 MB:
	// more than 300 connects a second that each leave theirs to expire.
	defaultTicketLimit = 10_000

	// maxTicketBytes is looked at before a ticket is hashed; ours have 26.
	maxTicketBytes = 64
)

// TicketStore keeps one-time tickets between the request that issues one and the
// handshake that redeems it. Servers behind one balancer need a common store,
// since those two may reach different servers. A store sees the hash of a ticket
// only, so reading the store gives nobody a way in.
type TicketStore interface {
	// Put keeps id under key for life. At its bound it returns an error that
	// holds [ReasonOverloaded], and forgets no ticket that is still good.
	Put(ctx context.Context, key string, id *Identity, life time.Duration) error

	// Take removes key and returns its identity; of concurrent calls one gets it.
	// Its error holds [ReasonTokenInvalid] for an unknown key, and
	// [ReasonTokenExpired], or the former, for one whose life is over.
	Take(ctx context.Context, key string) (*Identity, error)
}

// tickets issues and redeems one-time tickets, so that no token need stand in a
// URL. A ticket is 130 random bits.
type tickets struct {
	store TicketStore
}

// newTickets returns tickets that are kept in this process, at most limit at a
// time; 0 means defaultTicketLimit.
func newTickets(limit int) *tickets {
	if limit <= 0 {
		limit = defaultTicketLimit
	}
	return &tickets{store: &ticketMemory{limit: limit, byKey: make(map[string]*storedTicket)}}
}

// issue returns a ticket that lets one connection in as id, within life; 0 means
// defaultTicketLife. A ticket never outlives id. The error holds a Reason if the
// store is full or id has expired.
func (t *tickets) issue(ctx context.Context, id *Identity, life time.Duration) (string, error) {
	if life == 0 {
		life = defaultTicketLife
	}
	if life < 0 || life > maxTicketLife {
		return "", fmt.Errorf("realtime: ticket life of %v is not between 0 and %v", life, maxTicketLife)
	}
	if id == nil {
		return "", errors.New("realtime: ticket without an identity")
	}
	if !id.Expires.IsZero() {
		life = min(life, time.Until(id.Expires))
	}
	if life <= 0 {
		return "", fmt.Errorf("%w: no ticket for an expired identity", ReasonTokenExpired)
	}
	ticket := rand.Text()
	if err := t.store.Put(ctx, ticketKey(ticket), id, life); err != nil {
		return "", fmt.Errorf("issue ticket: %w", err)
	}
	return ticket, nil
}

// redeem returns the identity that ticket was issued for, once. The error holds
// [ReasonTokenInvalid] for a ticket that is unknown or used and
// [ReasonTokenExpired] for one that is too old.
func (t *tickets) redeem(ctx context.Context, ticket string) (*Identity, error) {
	if ticket == "" || len(ticket) > maxTicketBytes {
		return nil, invalid(errors.New("not a ticket"))
	}
	id, err := t.store.Take(ctx, ticketKey(ticket))
	if err != nil {
		return nil, fmt.Errorf("redeem ticket: %w", err)
	}
	if id == nil { // a store's mistake must not count as a client without a token
		return nil, fmt.Errorf("redeem ticket: no identity: %w", ReasonInternal)
	}
	return id, nil
}

// ticketKey is the ticket's SHA-256. Looking it up takes a time that tells
// nothing about the tickets that are stored.
func ticketKey(ticket string) string {
	sum := sha256.Sum256([]byte(ticket))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// ticketMemory is the [TicketStore] of one process. Expired tickets leave when
// others come: no goroutine, no timer.
type ticketMemory struct {
	limit int

	mu       sync.Mutex // guards the following
	byKey    map[string]*storedTicket
	byExpiry expiryHeap // the same tickets
}

type storedTicket struct {
	key     string
	id      *Identity
	expires time.Time
	index   int // in the heap
}

// ticketMemoryOfExpired is how long an expired ticket is remembered, so that its
// bearer is told why. It gives way at once when room is needed.
const ticketMemoryOfExpired = time.Minute

func (m *ticketMemory) Put(_ context.Context, key string, id *Identity, life time.Duration) error {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweepLocked(now)
	if len(m.byKey) >= m.limit {
		return fmt.Errorf("%w: %d tickets are outstanding", ReasonOverloaded, m.limit)
	}
	one := &storedTicket{key: key, id: id, expires: now.Add(life)}
	m.byKey[key] = one
	heap.Push(&m.byExpiry, one)
	return nil
}

func (m *ticketMemory) Take(_ context.Context, key string) (*Identity, error) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	one, ok := m.byKey[key]
	if !ok {
		return nil, fmt.Errorf("%w: unknown or used ticket", ReasonTokenInvalid)
	}
	m.removeLocked(one)
	if !now.Before(one.expires) {
		return nil, fmt.Errorf("%w: ticket is %v too old", ReasonTokenExpired, now.Sub(one.expires))
	}
	return one.id, nil
}

// sweepLocked removes what has been expired for long, and all that has expired
// if the store is full.
func (m *ticketMemory) sweepLocked(now time.Time) {
	for len(m.byExpiry) > 0 {
		oldest := m.byExpiry[0]
		age := now.Sub(oldest.expires)
		if age < 0 || (age < ticketMemoryOfExpired && len(m.byKey) < m.limit) {
			return
		}
		m.removeLocked(oldest)
	}
}

func (m *ticketMemory) removeLocked(one *storedTicket) {
	delete(m.byKey, one.key)
	heap.Remove(&m.byExpiry, one.index)
}

// expiryHeap implements heap.Interface: the ticket that expires first on top.
type expiryHeap []*storedTicket

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }

func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *expiryHeap) Push(x any) {
	one := x.(*storedTicket)
	one.index = len(*h)
	*h = append(*h, one)
}

func (h *expiryHeap) Pop() any {
	last := len(*h) - 1
	one := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return one
}
