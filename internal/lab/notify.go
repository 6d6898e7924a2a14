package lab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxNotify bounds a notification; sd_notify(3) messages are a few lines.
const maxNotify = 4096

// notifySocket is the receiving end of sd_notify(3), as systemd would be.
type notifySocket struct {
	path     string
	conn     *net.UnixConn
	ready    chan struct{} // closed by READY=1
	stopping chan struct{} // closed by STOPPING=1

	watchdog atomic.Int64 // how many WATCHDOG=1

	mu     sync.Mutex
	status string

	store *fdStore // nil: descriptors are not kept
}

// listenNotify makes a socket in dir and reads it until close. Descriptors that come with the messages go to the store, if there
// is one.
func listenNotify(dir string, store *fdStore) (*notifySocket, error) {
	name, err := os.MkdirTemp(dir, "notify")
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	path := filepath.Join(name, "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	s := &notifySocket{path: path, conn: conn, ready: make(chan struct{}), stopping: make(chan struct{}), store: store}
	go s.read()
	return s, nil
}

func (s *notifySocket) read() {
	buf, oob := make([]byte, maxNotify), make([]byte, unix.CmsgSpace(maxRights*4))
	for {
		n, oobn, _, _, err := s.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return // closed
		}
		files := receivedFiles(oob[:oobn])
		if s.store != nil {
			files = s.store.take(string(buf[:n]), files)
		}
		for _, f := range files {
			f.Close() // which also answers BARRIER=1
		}
		s.takeAll(strings.Split(strings.TrimRight(string(buf[:n]), "\n"), "\n"))
	}
}

// takeAll handles a message; who waits for READY=1 finds all that came with it done.
func (s *notifySocket) takeAll(lines []string) {
	for _, line := range lines {
		s.take(line)
	}
	if slices.Contains(lines, "READY=1") {
		closeOnce(s.ready)
	}
}

// take handles one assignment; those it does not know are no error.
func (s *notifySocket) take(line string) {
	key, value, _ := strings.Cut(line, "=")
	switch {
	case line == "STOPPING=1":
		closeOnce(s.stopping)
	case line == "WATCHDOG=1":
		s.watchdog.Add(1)
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
