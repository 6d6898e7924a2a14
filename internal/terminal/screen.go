package terminal

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// The private modes of xterm that a Screen uses: the alternate screen, and the cursor.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" + noWrap
	leaveScreen = doWrap + "\x1b[?25h\x1b[?1049l"
)

// A Screen is a whole terminal, whose former contents are there again after Close.
type Screen struct {
	out     *os.File
	keys    chan byte
	resized chan os.Signal
	restore func()
}

// OpenScreen takes the terminal out, and the keys of in, if that is a terminal too.
func OpenScreen(in, out *os.File) (*Screen, error) {
	s := &Screen{out: out, keys: make(chan byte), resized: make(chan os.Signal, 1), restore: func() {}}
	if fd := int(in.Fd()); term.IsTerminal(fd) {
		former, err := term.MakeRaw(fd)
		if err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		s.restore = func() { _ = term.Restore(fd, former) } // there is nobody to tell
		go s.readKeys(in)
	}
	signal.Notify(s.resized, syscall.SIGWINCH)
	fmt.Fprint(out, enterScreen)
	return s, nil
}

// readKeys ends with the process: a read of a terminal cannot be called off.
func (s *Screen) readKeys(in *os.File) {
	var b [1]byte
	for {
		if n, err := in.Read(b[:]); err != nil || n == 0 {
			return
		}
		s.keys <- b[0]
	}
}

// Keys are those that are pressed, as bytes. Ctrl-C is 3, like any other key.
func (s *Screen) Keys() <-chan byte { return s.keys }

// Resized tells of each change of the size.
func (s *Screen) Resized() <-chan os.Signal { return s.resized }

// Draw shows text in place of what was there, cut to the size of the terminal.
func (s *Screen) Draw(text string) {
	_, lines := size(s.out)
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if lines > 0 && len(all) > lines {
		all = all[:lines]
	}
	fmt.Fprint(s.out, home+strings.Join(all, clearRight+"\r\n")+clearRight+clearEnd)
}

// Close gives the terminal back.
func (s *Screen) Close() {
	signal.Stop(s.resized)
	fmt.Fprint(s.out, leaveScreen)
	s.restore()
}
