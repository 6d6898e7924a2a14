package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxRights is how many descriptors one notification brings at most.
const maxRights = 16

// Service is a daemon as systemd runs it: the descriptors that it hands to the file descriptor store, sd_notify(3), are kept when
// its process ends, and passed to the next one, sd_listen_fds(3).
type Service struct {
	*Process // the one that runs now

	store *fdStore
}

// StartService starts `twill run` as StartDaemon does.
func (h *Host) StartService(args ...string) (*Service, error) {
	s := &Service{store: &fdStore{files: map[string]*os.File{}}}
	h.stores = append(h.stores, s.store)
	p, err := h.startService(s.store, args)
	s.Process = p
	return s, err
}

// Next starts the next process of a service whose process has ended, with the given arguments, which are those of StartService.
func (s *Service) Next(args ...string) error {
	p, err := s.Host.startService(s.store, args)
	if err == nil {
		s.Process = p
	}
	return err
}

// Discard closes the descriptors, as systemd does when a service has been stopped for good.
func (s *Service) Discard() { s.store.discard() }

// Stored returns the names of the descriptors in the store, in no order.
func (s *Service) Stored() []string {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	names, _ := s.store.list()
	return names
}

func (h *Host) startService(store *fdStore, args []string) (*Process, error) {
	args = h.daemonArgs(args)
	cmd := h.command(context.Background(), args)
	store.mu.Lock() // until the process has the descriptors: what it says may make take close some
	defer store.mu.Unlock()
	if names, files := store.list(); len(files) > 0 {
		if err := passDescriptors(cmd, names, files); err != nil {
			return nil, err
		}
	}
	return h.launch(cmd, "twill", args, store)
}

// passDescriptors makes cmd pass descriptors as sd_listen_fds(3) wants them. LISTEN_PID must be the program's own, which a shell
// that becomes the program knows.
func passDescriptors(cmd *exec.Cmd, names []string, files []*os.File) error {
	program, err := filepath.EvalSymlinks(cmd.Path) // /proc/self/exe would be the shell
	if err != nil {
		return fmt.Errorf("find the program under test: %w", err)
	}
	cmd.Path = "/bin/sh"
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, program}, cmd.Args[1:]...)
	cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	cmd.ExtraFiles = files // from descriptor 3 on, which is SD_LISTEN_FDS_START
	return nil
}

// fdStore is systemd's side of the file descriptor store, for one service.
type fdStore struct {
	mu    sync.Mutex
	files map[string]*os.File // by FDNAME
}

// take handles a notification that came with descriptors, and returns those that it does not keep.
func (s *fdStore) take(state string, files []*os.File) (rest []*os.File) {
	assignments := map[string]string{}
	for line := range strings.Lines(state) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		assignments[key] = value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := assignments["FDNAME"]
	switch {
	case assignments["FDSTOREREMOVE"] == "1":
		if former := s.files[name]; former != nil {
			former.Close()
			delete(s.files, name)
		}
	case assignments["FDSTORE"] == "1" && len(files) == 1 && s.files[name] == nil:
		s.files[name] = files[0]
		return nil
	}
	return files
}

// list wants s.mu locked.
func (s *fdStore) list() (names []string, files []*os.File) {
	for name, file := range s.files { // in no order: systemd promises none
		names = append(names, name)
		files = append(files, file)
	}
	return names, files
}

func (s *fdStore) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, file := range s.files {
		file.Close()
		delete(s.files, name)
	}
}

// receivedFiles are the descriptors in the control messages of a datagram.
func receivedFiles(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil // none
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // another kind of message
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files
}
