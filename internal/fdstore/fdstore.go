// Package fdstore is a service's side of systemd's file descriptor store: descriptors that outlive the process, because systemd
// holds them until it has started the next one. See "File Descriptor Store" in systemd's documentation, sd_notify(3) and
// sd_listen_fds(3).
//
// The flow: [Inherit] takes what the last process has left; [Store.Take] hands a group of it to the caller; [Store.Keep] gives a
// group to systemd, once for its life; [Store.Drop] takes it back. Groups are ordered lists of descriptors with a name.
//
// systemd forgets everything when the service is stopped for good. Without systemd, or with FileDescriptorStoreMax=0, nothing is
// kept and nothing inherited.
package fdstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// A Store is what systemd keeps for this service.
type Store struct {
	notify    string              // address of systemd's socket; empty: there is none
	inherited map[string]*os.File // by FDNAME, until they are taken
	held      map[string][]string // FDNAMEs that systemd holds, by group
}

// Inherit takes the descriptors that systemd passed to this process, and with them the variables of the environment that tell of
// them: children shall not take them for theirs.
func Inherit() *Store {
	s := &Store{notify: os.Getenv("NOTIFY_SOCKET"), inherited: map[string]*os.File{}, held: map[string][]string{}}
	for _, file := range activation.Files(true) {
		s.add(file)
	}
	return s
}

func (s *Store) add(file *os.File) {
	name := file.Name()
	if former := s.inherited[name]; former != nil {
		former.Close()
	}
	s.inherited[name] = file
	if group, _, ok := parseName(name); ok && !slices.Contains(s.held[group], name) {
		s.held[group] = append(s.held[group], name)
	}
}

// Inherited returns the inherited descriptors of a group in their order, none if there are none. They stay the Store's.
func (s *Store) Inherited(group string) []*os.File {
	names := slices.SortedFunc(slices.Values(s.held[group]), func(a, b string) int {
		_, i, _ := parseName(a)
		_, j, _ := parseName(b)
		return i - j
	})
	var files []*os.File
	for _, name := range names {
		if file := s.inherited[name]; file != nil {
			files = append(files, file)
		}
	}
	return files
}

// Take returns what Inherited does, for the caller to own. Systemd keeps its own.
func (s *Store) Take(group string) []*os.File {
	files := s.Inherited(group)
	for _, file := range files {
		delete(s.inherited, file.Name())
	}
	return files
}

// Close closes what nobody took.
func (s *Store) Close() {
	for name, file := range s.inherited {
		file.Close()
		delete(s.inherited, name)
	}
}

// Holds tells whether systemd holds descriptors of a group.
func (s *Store) Holds(group string) bool { return len(s.held[group]) > 0 }

// Keep hands a group to systemd. One that systemd holds already must be dropped first.
func (s *Store) Keep(group string, members []syscall.Conn) error {
	if s.notify == "" {
		return nil
	}
	if s.Holds(group) {
		return fmt.Errorf("keep descriptors %s: systemd still holds the former ones", group)
	}
	for i, member := range members {
		// FDPOLL=0: systemd would drop a socket on which an error waits to be read.
		name := memberName(group, i)
		if err := s.sendDescriptor("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, member); err != nil {
			return fmt.Errorf("keep descriptor %s: %w", name, err)
		}
		s.held[group] = append(s.held[group], name)
	}
	return nil
}

// barrierTimeout bounds the wait for systemd, which answers within milliseconds unless it hangs.
const barrierTimeout = 5 * time.Second

// Drop closes the descriptors of a group that nobody took, makes systemd close its own, and waits until it has: a TUN queue or a
// port is free only then.
func (s *Store) Drop(ctx context.Context, group string) error {
	for _, file := range s.Take(group) {
		file.Close()
	}
	if s.notify == "" || !s.Holds(group) {
		return nil
	}
	for _, name := range s.held[group] {
		if err := s.send("FDSTOREREMOVE=1\nFDNAME="+name, nil); err != nil {
			return fmt.Errorf("drop descriptor %s: %w", name, err)
		}
	}
	delete(s.held, group)
	if err := s.barrier(ctx); err != nil {
		return fmt.Errorf("drop descriptors %s: %w", group, err)
	}
	return nil
}

// barrier waits until systemd has handled all that was sent before: it closes the descriptor that comes with BARRIER=1.
func (s *Store) barrier(ctx context.Context) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	err = s.sendDescriptor("BARRIER=1", write)
	write.Close()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { read.Close() })
	defer stop()
	if _, err := read.Read(make([]byte, 1)); errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("wait for systemd: %w", context.Cause(ctx))
	}
	return nil
}

func (s *Store) sendDescriptor(state string, c syscall.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = s.send(state, unix.UnixRights(int(fd))) }); err != nil {
		return err
	}
	return sent
}

func (s *Store) send(state string, rights []byte) error {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	if err := unix.Sendmsg(socket, []byte(state), rights, &unix.SockaddrUnix{Name: s.notify}, 0); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET %s: %w", s.notify, err)
	}
	return nil
}

// memberName is the FDNAME of member i of a group.
func memberName(group string, i int) string { return group + "-" + strconv.Itoa(i) }

func parseName(name string) (group string, i int, ok bool) {
	group, number, ok := strings.Cut(name, "-")
	if !ok {
		return "", 0, false
	}
	i, err := strconv.Atoi(number)
	return group, i, err == nil && i >= 0
}
