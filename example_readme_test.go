package realtime_test

// The Go snippets of README.md: TestReadmeSnippetsAreCompiled holds each against
// this file, so that what the README shows is what compiles.

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

func newApp() (http.Handler, error) {
	rt, err := realtime.New(realtime.Anonymous())
	if err != nil {
		return nil, err
	}
	chat := rt.Topic("chat:{room}", realtime.History(100, time.Hour))
	chat.Handle("message", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		return nil, rt.Publish(ctx, m.Topic, "message", m.Data)
	})
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	return mux, nil
}

func main() {
	app, err := newApp()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", app))
}

var _ = main // compiled, not called: it would take a fixed port

// Example_readme is the program at the top of README.md with one client.
func Example_readme() {
	app, err := newApp()
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(app)
	defer server.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, server.URL+"/ws", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.CloseNow()
	for _, line := range []string{
		`{"channel":"chat:lobby","type":"subscribe"}`,
		`{"channel":"chat:lobby","type":"message","data":{"text":"hi"}}`,
	} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(line)); err != nil {
			log.Fatal(err)
		}
	}
	for range 3 {
		_, line, err := conn.Read(ctx)
		if err != nil {
			log.Fatal(err)
		}
		var m struct {
			Channel, Type string
			Data          struct {
				Text, Recovery string
			}
			Offset int
		}
		if err := json.Unmarshal(line, &m); err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Channel, m.Type, m.Data.Recovery+m.Data.Text, m.Offset)
	}
	// Output:
	// global connected  0
	// global subscription_success fresh 0
	// chat:lobby message hi 1
}

func TestReadmeExamplesAreWiredRight(t *testing.T) {
	tenants := realtime.NewTenants()
	if err := tenants.Register("acme", []byte("a secret of the tenant acme")); err != nil {
		t.Fatal(err)
	}
	keep := func(event string, data json.RawMessage) string { return event }
	for name, wire := range map[string]func() error{
		"topics":   func() error { return readmeTopics(&readmeStore{}) },
		"auth":     func() error { return readmeAuth([]byte("a secret of at least thirty-two bytes")) },
		"tenants":  func() error { return readmeTenants(tenants) },
		"custom":   readmeCustom,
		"limits":   readmeLimits,
		"policies": func() error { return readmePolicies(keep) },
		"mounts":   readmeMounts,
		"phoenix":  func() error { return readmePhoenix(oneRoute{}, nil) },
		"observe":  func() error { return readmeObserve(prometheus.NewRegistry()) },
	} {
		if err := wire(); err != nil {
			t.Errorf("%s: got %v, want no mistake", name, err)
		}
	}
}

type readmeStore struct{}

func (*readmeStore) mayRead(user, session string) bool { return user == session }

func (*readmeStore) save(context.Context, string, []byte) (int, error) { return 1, nil }

func (*readmeStore) userOf(cookie string) (string, error) { return cookie, nil }

func readmeTopics(store *readmeStore) error {
	rt, err := realtime.New(realtime.Anonymous())
	if err != nil {
		return err
	}

	session := rt.Topic("session:{id}",
		realtime.Join(func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			if !store.mayRead(c.User(), m.Param("id")) {
				return nil, realtime.Reject("Not your session") // shown to the client
			}
			return map[string]string{"title": "A session"}, nil // the answer's response
		}),
		realtime.Left(func(c *realtime.Client, topic string, why realtime.Reason) {
			slog.Info("left", "user", c.User(), "topic", topic, "reason", string(why))
		}),
		realtime.History(1000, time.Hour),
	)
	session.Handle("send_message", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		var in struct{ Message string }
		if err := m.Decode(&in); err != nil {
			return nil, err // answered as invalid_data
		}
		id, err := store.save(ctx, m.Param("id"), m.Data)
		if err != nil {
			return nil, fmt.Errorf("save message: %w", err) // logged; the client sees "internal"
		}
		return map[string]int{"id": id}, rt.Publish(ctx, m.Topic, "message", in, realtime.Except(c))
	})

	stream := realtime.NewEvent[StreamOutput]("stream_output")
	stream.Handle(session, func(ctx context.Context, c *realtime.Client, data StreamOutput, m realtime.Message) (any, error) {
		return nil, stream.Publish(ctx, rt, m.Topic, data)
	})

	session.Handle("slow", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		reply := m.Later()
		go func() {
			answer, err := work(c.Context())
			reply.Send(answer, err)
		}()
		return nil, nil
	})
	return nil
}

// StreamOutput is the data of one event.
type StreamOutput struct {
	Text string `json:"text"`
}

func work(context.Context) (any, error) { return nil, nil }

// readmePublish leaves the errors out, as the README says it does.
func readmePublish(ctx context.Context, rt *realtime.Server, c *realtime.Client) {
	rt.Publish(ctx, "chat:lobby", "message", map[string]string{"text": "hi"})        // every member, on every node
	rt.Publish(ctx, "chat:lobby", "typing", nil, realtime.Except(c))                 // every member but one connection
	rt.Push(realtime.Target{User: "u1"}, "global", "notice", "Your export is ready") // one user's connections
	c.Push("chat:lobby", "hint", "Press Enter to send")                              // one connection

	answer, _ := c.Ask(ctx, "chat:lobby", "confirm", "Sure?") // one connection, and its answer
	answers, _ := rt.Ask(ctx, "chat:lobby", "vote", nil)      // every member, and what each answered

	c.Subscribe(ctx, "chat:lobby")                              // the join function is not asked
	c.Unsubscribe("chat:lobby", realtime.Reject("Room closed")) // the client is told why
	rt.Disconnect(realtime.Target{User: "u1"}, realtime.Reject("Signed out"))

	for c := range rt.Clients("chat:lobby") {
		fmt.Println(c.User(), c.RemoteAddr(), c.RoundTrip(), c.Queue().Messages)
	}
	for topic, members := range rt.Topics() {
		fmt.Println(topic, members)
	}

	fmt.Println(answer, answers)
}

var _ = readmePublish

func readmeAuth(secret []byte) error {
	rt, err := realtime.New(
		realtime.WithJWT(
			realtime.HS256("key-1", secret),
			realtime.Issuer("https://id.example.com/"),
			realtime.Audience("chat"),
			realtime.Leeway(5*time.Second),
		),
		realtime.WithTokenGrace(30*time.Second),
	)

	_ = rt
	return err
}

func readmeRSA(public *rsa.PublicKey) realtime.JWTOption { return realtime.RS256("key-2", public) }

var _ = readmeRSA

func readmeTenants(tenants *realtime.Tenants) error {
	rt, err := realtime.New(realtime.WithTenants(tenants))

	_ = rt
	return err
}

func readmeCustom() error {
	sessions := &readmeStore{}

	rt, err := realtime.New(
		realtime.WithOrigins("https://app.example.com"),
		realtime.WithTokenCookie("session"),
		realtime.WithAuth(func(r *http.Request, token string) (*realtime.Identity, error) {
			if token == "" {
				return nil, realtime.ReasonUnauthenticated
			}
			user, err := sessions.userOf(token)
			if err != nil {
				return nil, realtime.ReasonTokenInvalid
			}
			return &realtime.Identity{User: user, Expires: time.Now().Add(time.Hour)}, nil
		}),
	)

	_ = rt
	return err
}

func readmeLimits() error {
	rt, err := realtime.New(
		realtime.Anonymous(),
		realtime.WithRateLimit(
			realtime.PerConnection(20, 40),
			realtime.PerUser(50, 100),
			realtime.PerIP(200, 400),
			realtime.PerEvent("search", 2, 5),
			realtime.ConnectsPerIP(5, 20),
			realtime.WarnOnly(realtime.AcceptRate(500, 1000)),
		),
		realtime.WithConnectionLimits(20_000, 10, false),
		realtime.WithMessageBytes(16<<10),
	)

	_ = rt
	return err
}

func readmePolicies(key func(string, json.RawMessage) string) error {
	rt, err := realtime.New(realtime.Anonymous())
	if err != nil {
		return err
	}

	rt.Topic("log:{app}", realtime.Overflow(realtime.DropOldest))
	rt.Topic("cursor:{doc}", realtime.Overflow(realtime.KeepLatest(func(event string, data json.RawMessage) string {
		var cursor struct{ User string }
		json.Unmarshal(data, &cursor)
		return cursor.User
	})))

	_ = key
	return nil
}

func readmeMounts() error {
	rt, err := realtime.New(realtime.Anonymous())
	if err != nil {
		return err
	}
	mux := http.NewServeMux()

	mux.Handle("/ws", rt)                                                                          // realtime.v1, or realtime.flat if asked for
	mux.Handle("/flat", rt.Mount(realtime.Protocols("realtime.flat")))                             // flat only
	mux.Handle("/internal", rt.Mount(realtime.PlainRefusals()))                                    // 401 instead of a close code
	mux.Handle("/legacy", rt.Mount(realtime.TokensFrom(realtime.TokenHeader|realtime.TokenQuery))) // ?token= here only
	mux.Handle("/ticket", rt.Tickets())
	mux.Handle("/healthz", rt.Health())
	mux.Handle("/readyz", rt.Ready())

	mux.Handle("/shell", rt.Raw(func(ctx context.Context, c *realtime.Client, stream io.ReadWriteCloser) error {
		_, err := io.Copy(stream, stream) // an echo; a PTY in earnest
		return err
	}))
	return nil
}

func readmePhoenix(router chiRouter, store phoenixStore) error {
	rt, err := realtime.New()
	if err != nil {
		return err
	}

	router.Mount("/socket", rt.Phoenix( // new Socket("/socket", {authToken: …})
		realtime.Connect(func(ctx context.Context, h realtime.Handshake) (*realtime.Identity, error) {
			user, err := store.userOf(h.Token) // or h.Param("token"), as before Phoenix 1.8
			return &realtime.Identity{User: user, Session: "user_sockets:" + user}, err
		}),
		realtime.LongPoll(), // for networks that let no WebSocket through
	))
	lobby := rt.Topic("room:*", realtime.Presence())
	lobby.Handle("new_msg", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		return realtime.Nothing, rt.Publish(ctx, m.Topic, "new_msg", m.Data) // broadcast!, {:noreply, socket}
	})
	lobby.Intercept("typing", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		return m.Data, nil // handle_out: what this one member gets instead
	})
	rt.Supabase("realtime:*") // for @supabase/realtime-js, at the same mount

	return nil
}

// chiRouter is the method of chi's router that the README shows.
type chiRouter interface {
	Mount(pattern string, h http.Handler)
}

// oneRoute is a router that routes nothing.
type oneRoute struct{}

func (oneRoute) Mount(string, http.Handler) {}

// phoenixStore knows whose token one is.
type phoenixStore interface {
	userOf(token string) (string, error)
}

func readmeObserve(registry prometheus.Registerer) error {
	rt, err := realtime.New(
		realtime.Anonymous(),
		realtime.WithMetrics(registry),
		realtime.WithLogger(slog.New(slog.NewJSONHandler(os.Stderr, nil))),
	)

	_ = rt
	return err
}

func readmePresence(rt *realtime.Server) {
	room := rt.Topic("room:{id}", realtime.Presence(
		realtime.PresenceOf(func(c *realtime.Client, topic string) (key string, meta any) {
			return c.User(), map[string]any{"since": time.Now().Unix()} // "": not listed
		}),
	))
	room.Handle("status", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		return nil, c.Retrack(m.Topic, c.User(), m.Data) // a new meta in place of the old one
	})
}

var _ = readmePresence

func readmeShutdown(rt *realtime.Server, mux http.Handler) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	srv := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	select {
	case err := <-failed:
		return err // the port is taken, say
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return errors.Join(rt.Shutdown(drain), srv.Shutdown(drain)) // the sockets first
}

var _ = readmeShutdown

func readmeDocuments(rt *realtime.Server, secret []byte) error {
	tenants := realtime.NewTenants()
	if err := tenants.Register("acme", secret); err != nil {
		return err
	}
	docs := rt.Documents("document:{tenant}:{document}",
		realtime.DocumentTenants(tenants),
		realtime.OnSession(func(e realtime.SessionEvent) {
			slog.Info("document session", "kind", e.Kind, "document", e.Document, "error", e.Err)
		}),
	)

	_ = docs
	return nil
}

var _ = readmeDocuments

func TestChat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := []byte("a secret of at least thirty-two bytes")
		rt := realtimetest.NewServer(t, realtime.WithJWT(realtime.HS256("", secret)))
		declare(rt) // your topics and handlers
		dial := func(user string, opts ...realtimetest.TokenOption) *realtimetest.Client {
			return realtimetest.Dial(t, rt, realtimetest.WithToken(realtimetest.Token(secret, user, opts...)))
		}

		ada, bob := dial("ada"), dial("bob")
		ada.Join("chat:lobby")
		at := bob.Join("chat:lobby")
		ada.WantReply(ada.Push("chat:lobby", "message", "hi"), "ok", nil)
		seen := bob.WantPush("chat:lobby", "message", "hi")
		ada.WantError(ada.Push("chat:lobby", "shout", nil), realtime.CodeUnknownEvent)

		bob.Cut() // a lost network: no close frame
		ada.WantReply(ada.Push("chat:lobby", "message", "bob?"), "ok", nil)
		bob = dial("bob")
		bob.Rejoin("chat:lobby", realtime.Position{Epoch: at.Epoch, Offset: seen.Offset})
		bob.WantPush("chat:lobby", "message", "bob?")

		dial("eve", realtimetest.Lifetime(-time.Minute)).WantClosed(realtime.ReasonTokenExpired)
	})
}

func declare(rt *realtime.Server) {
	chat := rt.Topic("chat:{room}", realtime.History(100, time.Hour))
	chat.Handle("message", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		return nil, rt.Publish(ctx, m.Topic, "message", m.Data)
	})
}
