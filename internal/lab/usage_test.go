package lab

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestUsage(t *testing.T) {
	l, err := New(Options{Hosts: 1, Env: []string{standInEnv + "=1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := l.Hosts[0].Start("run")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	u, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if u.CPU <= 0 || u.CPU > time.Minute || u.RSS < 1<<20 || u.PeakRSS < u.RSS {
		t.Errorf("got %+v, want the little of a Go program that waits", u)
	}
	p.Kill()
	if _, err := p.Usage(); err == nil {
		t.Error("a process that has ended uses something")
	}
}

// TestUsageCountsBusyTime compares the CPU-time clock with the wall's.
func TestUsageCountsBusyTime(t *testing.T) {
	l, err := New(Options{Hosts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := l.Hosts[0].StartProgram("sh", "-c", "while :; do :; done")
	if err != nil {
		t.Fatal(err)
	}
	const enough = 50 * time.Millisecond
	begin := time.Now()
	for {
		u, err := p.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if passed := time.Since(begin) + time.Second; u.CPU > passed {
			t.Fatalf("one thread used %s in less than %s", u.CPU, passed)
		}
		if u.CPU > enough {
			return
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("a busy loop has used %s in 20 s", u.CPU)
		}
	}
}

// TestSegmentUnderlay looks at what a host really sends during a transfer.
func TestSegmentUnderlay(t *testing.T) {
	const ethernetHeader = 14
	for _, direct := range []bool{false, true} {
		for _, segmenting := range []bool{false, true} {
			l := newLab(t, 2)
			if direct {
				if err := l.ConnectDirectly(); err != nil {
					t.Fatal(err)
				}
			}
			if segmenting {
				if err := l.SegmentUnderlay(); err != nil {
					t.Fatal(err)
				}
			}
			longest := longestSent(t, l.Hosts[0], l.Hosts[1], l.Carrier())
			if segmented := longest <= underlayMTU+ethernetHeader; segmented != segmenting {
				t.Errorf("direct %t, segmenting %t: the longest frame has %d bytes", direct, segmenting, longest)
			}
		}
	}
}

// longestSent is the longest frame, in bytes, that a host hands to a network card
// while it sends to another host. The card has to carry all of it.
func longestSent(t *testing.T, from, to *Host, card string) (longest int) {
	t.Helper()
	const everything = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
	var fd int
	err := from.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, everything)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	before := sentBytes(t, from, card)
	const bytes = 4 << 20
	if _, err := Transfer(t.Context(), from.Namespace, to.Namespace, bytes); err != nil {
		t.Fatal(err)
	}
	if sent := sentBytes(t, from, card) - before; sent < bytes {
		t.Errorf("%s carried %d bytes of a transfer of %d", card, sent, bytes)
	}
	frame := make([]byte, 128)
	for {
		n, sender, err := unix.Recvfrom(fd, frame, unix.MSG_TRUNC)
		if err == unix.EAGAIN {
			return longest
		}
		if err != nil {
			t.Fatal(err)
		}
		if sender.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			longest = max(longest, n)
		}
	}
}

// sentBytes is how many bytes a network card has sent.
func sentBytes(t *testing.T, h *Host, card string) uint64 {
	t.Helper()
	link, err := h.find(card)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().Statistics.TxBytes
}
