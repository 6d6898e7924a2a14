package tunnel

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

func TestRebind(t *testing.T) {
	r := newRig(t, SpoofStrict)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.tunnel.Run(ctx) }()

	next := newFakeConn()
	sent := make(chan struct{}, 1)
	next.out = func(*Packet) { sent <- struct{}{} }
	former, err := r.tunnel.Rebind([]Conn{next})
	if err != nil {
		t.Fatal(err)
	}
	if len(former) != 1 || former[0] != Conn(r.conn) {
		t.Fatalf("former sockets %v, want the first one", former)
	}
	written := make(chan struct{}, 1)
	r.queue.out = func([]byte) { written <- struct{}{} }
	r.queue.in <- [][]byte{udpPacket(ownPod, nearPod, 100)}
	wait(t, sent, "a packet out of the new socket")
	next.in <- []Datagram{{Data: udpPacket(nearPod, ownPod, 100), From: nearEndpoint}}
	wait(t, written, "a packet in by the new socket")
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run did not end: the new socket was not interrupted")
	}

	// Too late: the new sockets must not keep anybody waiting.
	late := newFakeConn()
	if _, err := r.tunnel.Rebind([]Conn{late}); err != nil {
		t.Fatal(err)
	}
	wait(t, late.passed, "the deadline of a socket that came after the end")
}

func wait[T any](t *testing.T, c <-chan T, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("never saw %s", what)
	}
}

// A burst that was on its way out when the socket was closed loses nothing.
func TestRebindUnderSend(t *testing.T) {
	r := newRig(t, SpoofStrict)
	next := newFakeConn()
	sent := 0
	next.out = func(*Packet) { sent++ }
	old := rebindOnSend{newFakeConn(), func() { r.tunnel.Rebind([]Conn{next}) }}
	if _, err := r.tunnel.Rebind([]Conn{old}); err != nil {
		t.Fatal(err)
	}
	if err := r.out(udpPacket(ownPod, nearPod, 100), udpPacket(ownPod, farPod, 100)); err != nil || sent != 2 {
		t.Errorf("%d packets sent, %v; want 2", sent, err)
	}
}

// rebindOnSend is closed, and another takes its place, in the middle of a send.
type rebindOnSend struct {
	*fakeConn
	rebind func()
}

func (c rebindOnSend) Send([]Packet) (int, error) {
	c.rebind()
	return 1, net.ErrClosed
}

func TestRebindRefusesOtherSockets(t *testing.T) {
	r := newRig(t, SpoofStrict)
	two := newFakeConn()
	two.ports = 2
	for want, conns := range map[string][]Conn{
		"2 sockets":      {newFakeConn(), newFakeConn()},
		"2 source ports": {two},
	} {
		if _, err := r.tunnel.Rebind(conns); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if r.tunnel.lanes[0].conn.load() != Conn(r.conn) {
		t.Error("a refused Rebind changed the socket")
	}
}
