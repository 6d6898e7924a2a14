package lab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// maxNotify bounds a notification; sd_notify(3) messages are a few lines.
const maxNotify = 4096

// notifySocket is the receiving end of sd_notify(3), as systemd would be.
type notifySocket struct {
	path     string
	conn     *net.UnixConn
	ready    chan struct{} // closed by READY=1
	stopping chan struct{} // closed by STOPPING=1

	mu     sync.Mutex
	status string
}

// listenNotify makes a socket in dir and reads it until close.
func listenNotify(dir string) (*notifySocket, error) {
	name, err := os.MkdirTemp(dir, "notify")
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	path := filepath.Join(name, "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	s := &notifySocket{path: path, conn: conn, ready: make(chan struct{}), stopping: make(chan struct{})}
	go s.read()
	return s, nil
}

func (s *notifySocket) read() {
	buf := make([]byte, maxNotify)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			return // closed
		}
		for line := range strings.Lines(string(buf[:n])) {
			s.take(strings.TrimRight(line, "\n"))
		}
	}
}

// take handles one assignment; those it does not know are no error.
func (s *notifySocket) take(line string) {
	key, value, _ := strings.Cut(line, "=")
	switch {
	case line == "READY=1":
		closeOnce(s.ready)
	case line == "STOPPING=1":
		closeOnce(s.stopping)
	case key == "STATUS":
		s.mu.Lock()
		s.status = value
		s.mu.Unlock()
	}
}

// closeOnce closes a channel that only the caller's goroutine closes.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

func (s *notifySocket) lastStatus() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *notifySocket) close() {
	s.conn.Close()
	os.RemoveAll(filepath.Dir(s.path))
}
