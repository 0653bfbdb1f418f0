package realtime

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// upgraded is what remains of a handshake: nothing of the request but copies.
type upgraded struct {
	nc      net.Conn
	early   []byte
	answer  []byte // the response, not yet written
	deflate bool
}

// errNotHijackable names the wrapper that hides the connection.
var errNotHijackable = errors.New("realtime: the ResponseWriter hides http.Hijacker")

// upgrade takes the connection over from a request that checkUpgrade has passed.
// subprotocol is what the answer names, "" for nothing; compress says that
// permessage-deflate may be agreed on. With an error the request is answered.
//
// The handler must return soon after: net/http holds its buffers until then.
func upgrade(w http.ResponseWriter, r *http.Request, subprotocol string, compress bool) (*upgraded, error) {
	hj, err := hijacker(w)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return nil, err
	}
	nc, brw, err := hj.Hijack()
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return nil, fmt.Errorf("realtime: handshake: %w", err)
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		nc.Close()
		return nil, fmt.Errorf("realtime: handshake: %w", err)
	}
	up := &upgraded{nc: nc, deflate: compress && offersDeflate(r.Header)}
	if early, _ := brw.Reader.Peek(brw.Reader.Buffered()); len(early) > 0 {
		up.early = append([]byte(nil), early...)
	}
	up.answer = up.appendAnswer(make([]byte, 0, 256), r.Header.Get("Sec-Websocket-Key"), subprotocol, w.Header())
	return up, nil
}

// hijacker finds the Hijacker below the wrappers of middleware.
func hijacker(w http.ResponseWriter) (http.Hijacker, error) {
	for {
		if hj, ok := w.(http.Hijacker); ok {
			return hj, nil
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil, fmt.Errorf("%w: %T has neither Hijack nor Unwrap; use a middleware that has, or mount the handler outside it", errNotHijackable, w)
		}
		w = u.Unwrap()
	}
}

// appendAnswer appends the response that accepts the handshake (RFC 6455 section
// 4.2.2), with what middleware has put into h. It waits in the queue like any
// frame, so that it leaves in one write with what follows it.
func (up *upgraded) appendAnswer(dst []byte, key, subprotocol string, h http.Header) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = appendAccept(dst, key)
	if subprotocol != "" {
		dst = append(append(dst, "\r\nSec-WebSocket-Protocol: "...), subprotocol...)
	}
	if up.deflate {
		dst = append(dst, "\r\nSec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover"...)
	}
	dst = append(dst, "\r\n"...)
	if len(h) > 0 {
		dst = appendHeaders(dst, h)
	}
	return append(dst, "\r\n"...)
}

// answered are the headers that the answer sets itself.
var answered = map[string]bool{
	"Upgrade": true, "Connection": true, "Sec-Websocket-Accept": true,
	"Sec-Websocket-Protocol": true, "Sec-Websocket-Extensions": true,
}

func appendHeaders(dst []byte, h http.Header) []byte {
	var b strings.Builder
	h.WriteSubset(&b, answered) // a builder takes all
	return append(dst, b.String()...)
}

// acceptGUID is what RFC 6455 section 1.3 adds to a key.
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// appendAccept appends the answer to a key.
func appendAccept(dst []byte, key string) []byte {
	var space [64]byte
	sum := sha1.Sum(append(append(space[:0], key...), acceptGUID...))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// offersDeflate reports whether one of the offered extensions is compression as
// it is done here: with a window of 32 KiB and none kept between messages
// (RFC 7692 section 7.1). A window that the client bounds for itself may be
// smaller.
func offersDeflate(h http.Header) bool {
	for _, line := range h["Sec-Websocket-Extensions"] {
		for offer := range strings.SplitSeq(line, ",") {
			name, params, more := strings.Cut(offer, ";")
			if strings.TrimSpace(name) == "permessage-deflate" && (!more || knowsParams(params)) {
				return true
			}
		}
	}
	return false
}

// knowsParams reports whether an offer of permessage-deflate asks for nothing
// that is not here.
func knowsParams(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		switch param = strings.TrimSpace(param); param {
		case "client_no_context_takeover", "server_no_context_takeover", "client_max_window_bits", "server_max_window_bits=15":
		default:
			if !strings.HasPrefix(param, "client_max_window_bits=") {
				return false
			}
		}
	}
	return true
}
