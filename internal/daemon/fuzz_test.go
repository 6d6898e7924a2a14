package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"twill/internal/api"
	"twill/subnet"
	"twill/tunnel"
)

// FuzzControlRequest sends any bytes to the control socket: nothing panics, what
// comes back is HTTP, and the next one who asks rightly is answered.
func FuzzControlRequest(f *testing.F) {
	f.Add([]byte("GET " + api.StatusPath + " HTTP/1.1\r\nHost: twill\r\n\r\n"))
	f.Add([]byte("GET " + api.PeersPath + " HTTP/1.0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"))
	f.Add([]byte("POST " + api.StatusPath + " HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	socket, messages := controlled(f)
	f.Fuzz(func(t *testing.T, request []byte) {
		answer := exchange(t, socket, request)
		checkAnswers(t, answer)
		if s := messages.String(); strings.Contains(s, "panic") {
			t.Fatalf("%q made a panic:\n%s", request, s)
		}
		messages.Reset()
		good := exchange(t, socket, []byte("GET "+api.StatusPath+" HTTP/1.1\r\nHost: twill\r\nConnection: close\r\n\r\n"))
		if !bytes.HasPrefix(good, []byte("HTTP/1.1 200")) {
			t.Fatalf("after %q a right request gets %q", request, good)
		}
	})
}

// controlled is a daemon of which only the control socket runs.
func controlled(f *testing.F) (socket string, messages *safeBuffer) {
	f.Helper()
	d := &daemon{manager: new(subnet.Manager), Config: Config{Log: slog.New(slog.DiscardHandler), LogLevel: new(slog.LevelVar)}}
	var table *Table
	d.table.Store(table.Next(subnet.View{Peers: []*subnet.Peer{peer("10.5.2.0/24", "198.18.0.2:8285")}}))
	d.tunnel = idleTunnel(f)
	messages = new(safeBuffer)
	log := slog.New(slog.NewTextHandler(messages, &slog.HandlerOptions{Level: slog.LevelDebug}))
	socket = filepath.Join(f.TempDir(), "s")
	c, err := listenControl(socket, d.handler(), log)
	if err != nil {
		f.Fatal(err)
	}
	go c.run(f.Context())
	return socket, messages
}

// exchange sends a request, ends its direction, and reads to the end. A server
// that waits for more keeps the connection until its timeout: that is left.
func exchange(t *testing.T, socket string, request []byte) []byte {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * requestTimeout))
	conn.Write(request) // the server may have said no before the end
	conn.(*net.UnixConn).CloseWrite()
	answer, _ := io.ReadAll(conn)
	return answer
}

// checkAnswers reads the responses as a client would.
func checkAnswers(t *testing.T, answer []byte) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(answer))
	for {
		resp, err := http.ReadResponse(r, nil)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return
		}
		if err != nil {
			t.Fatalf("%q is no answer: %v", answer, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return // the answer to HEAD has a length and no body
		}
	}
}

// idleTunnel moves nothing.
func idleTunnel(tb testing.TB) *tunnel.Tunnel {
	tb.Helper()
	t, err := tunnel.New(tunnel.Config{
		Device: idleDevice{}, Conns: []tunnel.Conn{idleConn{}}, Address: netip.MustParseAddr("10.5.1.0"),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// An idleDevice and an idleConn are enough to be asked about.
type idleDevice struct{ tunnel.Device }

func (idleDevice) Name() string           { return "idle" }
func (idleDevice) Queues() []tunnel.Queue { return []tunnel.Queue{nil} }
func (idleDevice) Modes() []tunnel.Mode   { return nil }

type idleConn struct{ tunnel.Conn }

func (idleConn) SourcePorts() int          { return 1 }
func (idleConn) LocalAddr() netip.AddrPort { return netip.AddrPort{} }
func (idleConn) Modes() []tunnel.Mode      { return nil }

// A safeBuffer is written by the server's goroutines and read by the test's.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *safeBuffer) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Reset()
}
