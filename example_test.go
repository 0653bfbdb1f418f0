package realtime_test

import (
	"bufio"
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/seed-58bc6ac1/realtime"
)

// quiet keeps the log out of the examples' output.
var quiet = realtime.WithLogger(slog.New(slog.DiscardHandler))

// Example is a chat in a dozen lines.
func Example() {
	rt, err := realtime.New(realtime.Anonymous(), quiet)
	if err != nil {
		panic(err)
	}
	chat := rt.Topic("chat:{room}")
	chat.Handle("message", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
		return nil, rt.Publish(ctx, m.Topic, "message", m.Data)
	})
	server := serve(rt)
	defer server.stop()

	ada := server.connect("")
	fmt.Println(ada.send(`{"channel":"chat:lobby","type":"subscribe","ref":"1"}`))
	fmt.Println(ada.send(`{"channel":"chat:lobby","type":"message","data":"hello"}`))
	// Output:
	// {"channel":"global","type":"subscription_success","data":{"channel":"chat:lobby","recovery":"fresh","response":null},"ref":"1"}
	// {"channel":"chat:lobby","type":"message","data":"hello"}
}

// A client that comes back names the last event it has, and gets what it missed
// before anything newer.
func ExampleHistory() {
	rt, err := realtime.New(realtime.Anonymous(), quiet)
	if err != nil {
		panic(err)
	}
	rt.Topic("session:{id}", realtime.History(1000, time.Hour))
	server := serve(rt)
	defer server.stop()

	ctx := context.Background()
	for n := 1; n <= 3; n++ {
		if err := rt.Publish(ctx, "session:7", "token", n); err != nil {
			panic(err)
		}
	}
	_, newest, err := rt.History(ctx, "session:7", 0, 10)
	if err != nil {
		panic(err)
	}
	client := server.connect("")
	answer := client.send(fmt.Sprintf(`{"channel":"session:7","type":"subscribe","ref":"1","data":{"recover":{"epoch":%q,"offset":1}}}`, newest.Epoch))
	fmt.Println(strings.Contains(answer, `"offset":3,"recovery":"replayed"`))
	fmt.Println(client.receive())
	fmt.Println(client.receive())
	// Output:
	// true
	// {"channel":"session:7","type":"token","data":2,"offset":2}
	// {"channel":"session:7","type":"token","data":3,"offset":3}
}

// Members are told who is there: all of them when they join, then what has changed.
func ExamplePresence() {
	name := func(_ *http.Request, token string) (*realtime.Identity, error) {
		return &realtime.Identity{User: token}, nil
	}
	rt, err := realtime.New(realtime.WithAuth(name), quiet)
	if err != nil {
		panic(err)
	}
	rt.Topic("room:{id}", realtime.Presence(
		realtime.PresenceOf(func(c *realtime.Client, topic string) (key string, meta any) {
			return c.User(), map[string]string{"device": "phone"}
		}),
	))
	server := serve(rt)
	defer server.stop()
	ref := regexp.MustCompile(`"phx_ref":"[^"]{16}"`)
	show := func(message string) { fmt.Println(ref.ReplaceAllString(message, `"phx_ref":"…"`)) }

	ada := server.connect("ada")
	ada.send(`{"channel":"room:1","type":"subscribe","ref":"1"}`)
	show(ada.receive())
	bob := server.connect("bob")
	bob.send(`{"channel":"room:1","type":"subscribe","ref":"1"}`)
	bob.receive()
	show(ada.receive())
	bob.ws.CloseNow()
	show(ada.receive())
	// Output:
	// {"channel":"room:1","type":"presence_state","data":{"ada":{"metas":[{"device":"phone","phx_ref":"…"}]}}}
	// {"channel":"room:1","type":"presence_diff","data":{"joins":{"bob":{"metas":[{"device":"phone","phx_ref":"…"}]}},"leaves":{}}}
	// {"channel":"room:1","type":"presence_diff","data":{"joins":{},"leaves":{"bob":{"metas":[{"device":"phone","phx_ref":"…"}]}}}}
}

// Progress is the data of an event that server and clients share.
type Progress struct {
	Done  int `json:"done"`
	Total int `json:"total"`
}

var progress = realtime.NewEvent[Progress]("progress")

// The name of an event and the type of its data are written down once.
func ExampleNewEvent() {
	rt, err := realtime.New(realtime.Anonymous(), quiet)
	if err != nil {
		panic(err)
	}
	jobs := rt.Topic("job:{id}")
	progress.Handle(jobs, func(_ context.Context, _ *realtime.Client, data Progress, m realtime.Message) (any, error) {
		return fmt.Sprintf("job %s: %d of %d", m.Param("id"), data.Done, data.Total), nil
	})
	server := serve(rt)
	defer server.stop()

	client := server.connect("")
	client.send(`{"channel":"job:7","type":"subscribe","ref":"1"}`)
	fmt.Println(client.send(`{"channel":"job:7","type":"progress","ref":"2","data":{"done":1,"total":3}}`))
	if err := progress.Publish(context.Background(), rt, "job:7", Progress{2, 3}); err != nil {
		panic(err)
	}
	fmt.Println(client.receive())
	// Output:
	// {"channel":"job:7","type":"reply","data":{"status":"ok","response":"job 7: 1 of 3"},"ref":"2"}
	// {"channel":"job:7","type":"progress","data":{"done":2,"total":3}}
}

// An authenticator of one's own says who a token speaks for. Its error decides
// what the client is told, and with which code the connection is closed.
func ExampleWithAuth() {
	rt, err := realtime.New(quiet, realtime.WithAuth(func(r *http.Request, token string) (*realtime.Identity, error) {
		if subtle.ConstantTimeCompare([]byte(token), []byte("the device's key")) != 1 {
			return nil, realtime.Reject("Unknown device")
		}
		return &realtime.Identity{User: "device-7"}, nil
	}))
	if err != nil {
		panic(err)
	}
	rt.Topic("global").Handle("whoami", func(_ context.Context, c *realtime.Client, _ realtime.Message) (any, error) {
		return c.User(), nil
	})
	server := serve(rt)
	defer server.stop()

	fmt.Println(server.connect("the device's key").send(`{"type":"whoami","ref":"1"}`))
	fmt.Println(server.connect("a guess").receive())
	// Output:
	// {"channel":"global","type":"reply","data":{"status":"ok","response":"device-7"},"ref":"1"}
	// {"channel":"global","type":"closing","data":{"code":4006,"reason":"forbidden","error":"Unknown device","retry":"never"}}
}

// A raw mount carries a byte stream, such as a terminal's, with the admission
// and the heartbeat of all other connections.
func ExampleServer_Raw() {
	rt, err := realtime.New(realtime.Anonymous(), quiet)
	if err != nil {
		panic(err)
	}
	shell := rt.Raw(func(_ context.Context, _ *realtime.Client, stream io.ReadWriteCloser) error {
		command, err := bufio.NewReader(stream).ReadString('\n')
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stream, "$ %s", command)
		return err
	})
	server := serve(shell)
	defer server.stop()

	fmt.Print(server.connect("").send("ls\n"))
	// Output:
	// $ ls
}

// A deployment drains before it ends: clients are told to come back, to another
// server, and http.Server.Shutdown is called after that, since it does not know
// about WebSockets.
func ExampleServer_Shutdown() {
	rt, err := realtime.New(realtime.Anonymous(), quiet)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	mux.Handle("/ready", rt.Ready())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	web := &http.Server{Handler: mux}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()

	client := dialExample("ws://"+listener.Addr().String()+"/ws", "")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- rt.Shutdown(ctx) }()
	fmt.Println(client.receive())
	client.receive() // the close frame, which is answered
	fmt.Println("drained:", <-drained)
	fmt.Println("stopped:", web.Shutdown(ctx), <-served)
	// Output:
	// {"channel":"global","type":"closing","data":{"code":1012,"reason":"shutdown","error":"The server is restarting","retry":"backoff","min_delay_ms":0,"jitter_ms":1000}}
	// drained: <nil>
	// stopped: <nil> http: Server closed
}

// exampleServer serves h on a free port.
type exampleServer struct {
	web *http.Server
	url string
}

func serve(h http.Handler) *exampleServer {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &exampleServer{web: &http.Server{Handler: h}, url: "ws://" + listener.Addr().String()}
	go s.web.Serve(listener)
	return s
}

func (s *exampleServer) stop() { s.web.Close() }

func (s *exampleServer) connect(token string) *exampleClient { return dialExample(s.url, token) }

// exampleClient is any WebSocket client.
type exampleClient struct{ ws *websocket.Conn }

// dialExample connects and reads the greeting, unless there is none.
func dialExample(url, token string) *exampleClient {
	opts := &websocket.DialOptions{}
	if token != "" {
		opts.HTTPHeader = http.Header{"Authorization": {"Bearer " + token}}
	}
	ws, _, err := websocket.Dial(context.Background(), url, opts)
	if err != nil {
		panic(err)
	}
	return &exampleClient{ws}
}

// send sends text and returns the next message.
func (c *exampleClient) send(text string) string {
	if err := c.ws.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		panic(err)
	}
	return c.receive()
}

// receive returns the next message but the greeting, or the error of the end.
func (c *exampleClient) receive() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, p, err := c.ws.Read(ctx)
	if err != nil {
		return err.Error()
	}
	if strings.Contains(string(p), `"type":"connected"`) {
		return c.receive()
	}
	return string(p)
}
