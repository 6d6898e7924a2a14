package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty is a terminal, and what whoever sits in front of it sees.
type pty struct {
	t        *testing.T
	keyboard *os.File
	terminal *os.File

	mu   sync.Mutex
	seen bytes.Buffer
}

func newPTY(t *testing.T, columns, lines uint16) *pty {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	must(err)
	t.Cleanup(func() { keyboard.Close() })
	must(unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetUint32(int(keyboard.Fd()), unix.TIOCGPTN)
	must(err)
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(err)
	t.Cleanup(func() { terminal.Close() })
	must(unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns}))
	p := &pty{t: t, keyboard: keyboard, terminal: terminal}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.seen.Write(buf[:n])
			p.mu.Unlock()
		}
	}()
	return p
}

// waitFor waits until the picture is there, and forgets what was seen.
func (p *pty) waitFor(picture string) {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		got := p.seen.String()
		found := bytes.Contains([]byte(got), []byte(picture))
		if found {
			p.seen.Reset()
		}
		p.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the terminal shows %q, want %q", got, picture)
		}
	}
}

func (p *pty) settings() unix.Termios {
	p.t.Helper()
	settings, err := unix.IoctlGetTermios(int(p.terminal.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return *settings
}

// A screen gives keys and changes of size at once, cuts what does not fit, and leaves the terminal as it was.
func TestScreen(t *testing.T) {
	p := newPTY(t, 20, 3)
	before := p.settings()
	s, err := OpenScreen(p.terminal, p.terminal)
	if err != nil {
		t.Fatal(err)
	}
	p.waitFor(enterScreen)
	s.Draw("one\ntwo\nthree\nfour\n")
	p.waitFor(home + "one" + clearRight + "\r\ntwo" + clearRight + "\r\nthree" + clearRight + clearEnd)
	for _, key := range []byte{'q', 3} { // Ctrl-C is a key, too
		if _, err := p.keyboard.Write([]byte{key}); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-s.Keys():
			if got != key {
				t.Errorf("got key %d, want %d", got, key)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("key %d does not arrive", key)
		}
	}
	if err := unix.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Resized():
	case <-time.After(10 * time.Second):
		t.Fatal("a change of the size is not told")
	}
	s.Close()
	p.waitFor(leaveScreen)
	if after := p.settings(); after != before {
		t.Errorf("the terminal is left with %+v, and was %+v", after, before)
	}
}

// On a terminal each picture takes the place of the one before, cut to its height, and long lines do not wrap meanwhile.
func TestWatchOnATerminal(t *testing.T) {
	p := newPTY(t, 20, 4)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- Watch(ctx, p.terminal, time.Millisecond, func(w io.Writer) error {
			_, err := io.WriteString(w, "1\n2\n3\n4\n")
			return err
		})
	}()
	p.waitFor(noWrap + home + clearEnd)
	line := clearRight + "\r\n" // the terminal itself adds the carriage return
	for range 2 {
		p.waitFor(home + "1" + line + "2" + line + "… 2 more lines" + line + clearEnd)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	p.waitFor(doWrap)
}

func TestColoursAreForTerminals(t *testing.T) {
	p := newPTY(t, 80, 24)
	for _, tt := range []struct {
		noColor, term string
		want          bool
	}{{"", "xterm", true}, {"1", "xterm", false}, {"", "dumb", false}} {
		t.Setenv("NO_COLOR", tt.noColor)
		t.Setenv("TERM", tt.term)
		if got := Coloured(p.terminal); got != tt.want {
			t.Errorf("NO_COLOR=%q TERM=%q: colours %v, want %v", tt.noColor, tt.term, got, tt.want)
		}
	}
	if !IsTerminal(p.terminal) || Width(p.terminal) != 80 {
		t.Errorf("terminal %v, %d columns; want true, 80", IsTerminal(p.terminal), Width(p.terminal))
	}
}
