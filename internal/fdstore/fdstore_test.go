package fdstore

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is systemd's end of NOTIFY_SOCKET.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T) *manager {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	t.Setenv("NOTIFY_SOCKET", path)
	return &manager{t, conn}
}

// next returns the next message and the descriptors that came with it.
func (m *manager) next() (string, []int) {
	m.t.Helper()
	state, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := m.conn.ReadMsgUnix(state, oob)
	if err != nil {
		m.t.Fatal(err)
	}
	if oobn == 0 {
		return string(state[:n]), nil
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		m.t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		m.t.Fatal(err)
	}
	return string(state[:n]), fds
}

func tempFile(t *testing.T, content string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestKeepAndDrop(t *testing.T) {
	m := newManager(t)
	s := Inherit()
	if err := s.Keep("udp", []syscall.Conn{tempFile(t, "first"), tempFile(t, "second")}); err != nil {
		t.Fatal(err)
	}
	for i, content := range []string{"first", "second"} {
		state, fds := m.next()
		if want := []string{"FDSTORE=1\nFDPOLL=0\nFDNAME=udp-0", "FDSTORE=1\nFDPOLL=0\nFDNAME=udp-1"}[i]; state != want {
			t.Errorf("message %d is %q, want %q", i, state, want)
		}
		if len(fds) != 1 {
			t.Fatalf("message %d came with %d descriptors, want 1", i, len(fds))
		}
		got := make([]byte, len(content))
		unix.Pread(fds[0], got, 0)
		unix.Close(fds[0])
		if string(got) != content {
			t.Errorf("descriptor %d is of a file with %q, want %q", i, got, content)
		}
	}
	if err := s.Keep("udp", nil); err == nil {
		t.Error("a second Keep of a group is no error")
	}

	ended := make(chan error, 1)
	go func() { ended <- s.Drop(t.Context(), "udp") }()
	var states []string
	for range 3 {
		state, fds := m.next()
		states = append(states, strings.ReplaceAll(state, "\n", " "))
		if state != "BARRIER=1" {
			continue
		}
		select {
		case err := <-ended:
			t.Errorf("Drop returned %v before systemd had closed the barrier", err)
		case <-time.After(20 * time.Millisecond):
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	if want := []string{"FDSTOREREMOVE=1 FDNAME=udp-0", "FDSTOREREMOVE=1 FDNAME=udp-1", "BARRIER=1"}; !slices.Equal(states, want) {
		t.Errorf("Drop sent %q, want %q", states, want)
	}
	if err := <-ended; err != nil || s.Holds("udp") {
		t.Errorf("Drop returned %v, holds=%t", err, s.Holds("udp"))
	}
}

func TestDropDoesNotWaitForEver(t *testing.T) {
	newManager(t) // and does not answer
	s := Inherit()
	if err := s.Keep("tun", []syscall.Conn{tempFile(t, "")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Drop(ctx, "tun"); err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("Drop returned %v, want %v", err, context.Canceled)
	}
}

// Groups come back in their order, whatever the order and the numbers they are passed with.
func TestInheritedOrder(t *testing.T) {
	s := &Store{inherited: map[string]*os.File{}, held: map[string][]string{}}
	for _, name := range []string{"tun-10", "udp-0", "tun-2", "other", "tun-0"} {
		fd, err := unix.Dup(int(tempFile(t, "").Fd()))
		if err != nil {
			t.Fatal(err)
		}
		s.add(os.NewFile(uintptr(fd), name))
	}
	var names []string
	for _, f := range s.Take("tun") {
		names = append(names, f.Name())
	}
	if want := []string{"tun-0", "tun-2", "tun-10"}; !slices.Equal(names, want) {
		t.Errorf("Take returned %v, want %v", names, want)
	}
	if again := s.Take("tun"); len(again) != 0 {
		t.Errorf("Take returned %d descriptors again, want none", len(again))
	}
	s.Close()
	if !s.Holds("tun") || !s.Holds("udp") {
		t.Error("systemd does not hold what it passed")
	}
}

// Without systemd nothing happens.
func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	s := Inherit()
	if err := s.Keep("tun", []syscall.Conn{tempFile(t, "")}); err != nil || s.Holds("tun") {
		t.Errorf("Keep returned %v, holds=%t", err, s.Holds("tun"))
	}
	if err := s.Drop(t.Context(), "tun"); err != nil {
		t.Error(err)
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("tun-0")
	f.Add("-1-2")
	f.Add("stored")
	f.Fuzz(func(t *testing.T, name string) {
		if group, i, ok := parseName(name); ok && i < 0 {
			t.Errorf("%q is member %d of %q", name, i, group)
		}
	})
}
