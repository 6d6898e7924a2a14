//go:build attack

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"twill/internal/api"
	"twill/internal/daemon"
	"twill/internal/forge"
	"twill/internal/lab"
)

// floodFrames is how many frames each flood has.
const floodFrames = 60_000

// What a flood may cost the daemon: lines of its log, bytes of live heap (its resident
// memory is the race detector's, too), the time of a command.
const (
	floodLogLines = 30
	floodMemory   = 4 << 20
	floodAnswer   = 3 * time.Second
)

// The limit of replies to one peer, as docs/threat-model.md tells it.
const repliesAtOnce, repliesPerSecond = 200, 100

// A stranger who can forge any source sends as fast as it can. The daemon goes on,
// answers its commands, writes no log and takes no memory; nobody is sent more than
// the limits allow; and afterwards all is as it was.
func TestForgedFlood(t *testing.T) {
	f := newFlood(t)
	for _, kind := range []struct {
		name  string
		frame func() [][]byte
	}{
		{"garbage", func() [][]byte { return f.datagram(f.stranger.Addr(), f.random(64)) }},
		{"anything in the peer's name", func() [][]byte { _, p := f.Packet(); return f.datagram(f.peer.Addr(), p) }},
		{"probes in the peer's name", func() [][]byte { return f.datagram(f.peer.Addr(), f.Control(1, f.subnetOf(f.peer), 64)) }},
		{"large probes in the peer's name", func() [][]byte { return f.datagram(f.peer.Addr(), f.Control(1, f.subnetOf(f.peer), 1400)) }},
		{"replies in the peer's name", func() [][]byte { return f.datagram(f.peer.Addr(), f.Control(2, f.subnetOf(f.peer), 64)) }},
		{"first fragments", func() [][]byte {
			d := forge.Datagram{From: f.port(f.peer.Addr()), Payload: f.random(1000), Damage: forge.LostFragment}
			f.id++
			return d.Frames(f.port(f.target.Addr()), f.ethernet, 1500, f.id)
		}},
		{"fragmentation needed", func() [][]byte { return f.icmp(3, 4, uint16(68+f.IntN(1400))) }},
		{"unreachable", func() [][]byte { return f.icmp(3, byte(f.IntN(16)), 0) }},
	} {
		f.pour(kind.name, kind.frame)
	}
	f.recovers()
}

// flood is a target with a peer, and a stranger on their underlay.
type flood struct {
	*cluster
	*forge.Generator
	target, peer, stranger *lab.Host
	daemon                 *lab.Process
	wire                   *forge.Wire
	atPeer                 *forge.Wire // records what the peer gets
	ethernet               forge.Ethernet
	id                     uint16
	memory                 uint64 // live heap before the floods, bytes
}

func newFlood(t *testing.T) *flood {
	c := newCluster(t, 3, network(testNetwork))
	f := &flood{cluster: c, target: c.Hosts[0], peer: c.Hosts[1], stranger: c.Hosts[2]}
	f.daemon = c.start(f.target, "--probe-interval", "1s")
	c.attach(f.target)
	c.start(f.peer)
	c.attach(f.peer)
	c.waitPeers(f.target, 1)
	c.pingAll()
	c.waitPeer(f.target, "a reply", answersProbes)
	f.Generator = forge.NewGenerator(7, forge.Addresses{
		Sources:      []netip.Addr{f.peer.Pods[0].Addr(), f.target.Pods[0].Addr()},
		Destinations: []netip.Addr{f.target.Pods[0].Addr(), f.peer.Pods[0].Addr()},
		Senders:      []netip.Addr{f.peer.Addr()},
		Underlay:     []netip.AddrPort{f.port(f.target.Addr())},
	})
	c.must(f.stranger.Do(func() (err error) { f.wire, err = forge.OpenSender("eth0"); return err }))
	t.Cleanup(f.wire.Close)
	c.must(f.peer.Do(func() (err error) { f.atPeer, err = forge.OpenRecorder("eth0"); return err }))
	t.Cleanup(f.atPeer.Close)
	f.ethernet = forge.Ethernet{From: f.wire.Address(), To: c.linkOf(f.target.Namespace, "eth0").Attrs().HardwareAddr}
	f.memory = f.heap()
	return f
}

// heap is what the target's daemon holds, in bytes, as of its last garbage collection.
func (f *flood) heap() uint64 {
	f.t.Helper()
	var r api.Runtime
	f.must(api.Get(f.ctx, daemon.SocketPath(f.target.RunDir()), api.RuntimePath, &r))
	return r.LiveHeap
}

func (f *flood) port(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 8285) }

func (f *flood) random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(f.Uint32())
	}
	return b
}

func (f *flood) datagram(from netip.Addr, payload []byte) [][]byte {
	d := forge.Datagram{From: f.port(from), Payload: payload}
	f.id++
	return d.Frames(f.port(f.target.Addr()), f.ethernet, 1500, f.id)
}

// icmp is an error about a datagram that the target may well have sent to the peer.
func (f *flood) icmp(kind, code byte, mtu uint16) [][]byte {
	sent := forge.UDP(f.port(f.target.Addr()), f.port(f.peer.Addr()), nil)
	return [][]byte{f.ethernet.Frame(forge.ICMPError(f.Addr(), f.target.Addr(), kind, code, mtu, sent))}
}

// pour sends one flood, and looks at the daemon meanwhile and afterwards.
func (f *flood) pour(name string, frame func() [][]byte) {
	f.t.Helper()
	lines := strings.Count(f.daemon.Log(), "\n")
	_, err := f.replies()
	f.must(err)
	ctx, done := context.WithCancel(f.ctx)
	defer done()
	var watch errgroup.Group
	slowest := time.Duration(0)
	watch.Go(func() error {
		for ctx.Err() == nil {
			began := time.Now()
			if _, err := f.status(f.target); err != nil {
				return err
			}
			slowest = max(slowest, time.Since(began))
		}
		return nil
	})
	began, replies := time.Now(), 0
	for i := range floodFrames {
		for _, b := range frame() {
			f.must(f.wire.Send(b))
		}
		if i%1000 == 0 {
			n, err := f.replies()
			f.must(err)
			replies += n
		}
	}
	took := time.Since(began)
	done()
	f.must(watch.Wait())
	n, err := f.replies()
	f.must(err)
	replies += n
	heap := f.heap()
	said := strings.Count(f.daemon.Log(), "\n") - lines
	f.t.Logf("%-32s %d frames in %5.2f s; slowest command %5.3f s, %3d replies, %d log lines, heap %d KB",
		name, floodFrames, took.Seconds(), slowest.Seconds(), replies, said, heap>>10)
	if most := repliesAtOnce + int((time.Since(began).Seconds()+1)*(repliesPerSecond+2)); replies > most {
		f.t.Errorf("%s: %d replies in %v, want at most %d", name, replies, took, most)
	}
	if slowest > floodAnswer {
		f.t.Errorf("%s: a command took %v", name, slowest)
	}
	if said > floodLogLines {
		f.t.Errorf("%s: %d log lines, the last are\n%s", name, said, f.daemon.Tail(5))
	}
	if heap > f.memory+floodMemory {
		f.t.Errorf("%s: the daemon's heap has grown from %d to %d bytes", name, f.memory, heap)
	}
}

// replies is how many replies to probes the peer has got since the last call, each
// no longer than a probe is at least.
func (f *flood) replies() (n int, err error) {
	frames, err := f.atPeer.Record()
	for _, frame := range frames {
		for _, p := range frame.Packets {
			const payload = 20 + 8
			if frame.Outgoing || p[9] != 17 || len(p) < payload+2 || p[payload]>>4 != 0 || p[payload+1] != 2 {
				continue
			}
			if len(p) != payload+64 {
				return n, fmt.Errorf("a reply of %d bytes", len(p)-payload)
			}
			n++
		}
	}
	return n, err
}

// recovers waits until target and peer find each other well, and the path as large
// as it is.
func (f *flood) recovers() {
	f.t.Helper()
	f.pingAll()
	f.waitPeer(f.target, "the peer to answer, and its path MTU", func(p api.Peer) bool {
		f.pingAll()
		return answersProbes(p) && p.PathMTU == 1500-encapsulation
	})
	for i, pods := 0, f.pods(); i < 2; i++ {
		_, err := lab.Transfer(f.ctx, pods[i], pods[1-i], transferSize)
		f.must(err)
	}
	f.stop(f.daemon)
}

func answersProbes(p api.Peer) bool { return p.State == api.StateUp && p.ProbesAnswered > 0 }
