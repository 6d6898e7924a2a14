//go:build attack

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"twill/internal/api"
	"twill/internal/daemon"
	"twill/internal/lab"
)

// sampleInterval is how often the daemon is asked what it holds.
const sampleInterval = time.Second

// What the daemon may hold more at the end than before: noise of the runtime,
// of connections that are just being made, of an allocator that does not give
// back at once.
const (
	goroutineSlack = 8
	fileSlack      = 6
	heapSlack      = 8 << 20
	rssSlack       = 24 << 20
)

// A soakWatch samples one daemon.
type soakWatch struct {
	*cluster
	daemon  *lab.Process
	begin   time.Time
	samples []soakSample
}

type soakSample struct {
	when time.Duration
	api.Runtime
	rss    int64
	tx, rx api.Counters
}

func (s soakSample) String() string {
	return fmt.Sprintf("%6.1fs: %3d goroutines, %2d files, heap %5.1f MB, RSS %5.1f MB, %d sent, %d received",
		s.when.Seconds(), s.Goroutines, s.OpenFiles, float64(s.LiveHeap)/(1<<20), float64(s.rss)/(1<<20), s.tx.Packets, s.rx.Packets)
}

func newSoakWatch(c *cluster, d *lab.Process) *soakWatch {
	return &soakWatch{cluster: c, daemon: d, begin: time.Now()}
}

func (w *soakWatch) look() (s soakSample, err error) {
	socket := daemon.SocketPath(w.daemon.Host.RunDir())
	s.when = time.Since(w.begin)
	if err := api.Get(w.ctx, socket, api.RuntimePath, &s.Runtime); err != nil {
		return s, err
	}
	var status api.Status
	if err := api.Get(w.ctx, socket, api.StatusPath, &status); err != nil {
		return s, err
	}
	s.tx, s.rx = status.Tx, status.Rx
	u, err := w.daemon.Usage()
	s.rss = u.RSS
	return s, err
}

func (w *soakWatch) sample(what string) {
	w.t.Helper()
	s, err := w.look()
	w.must(err)
	w.t.Logf("%s: %v", what, s)
	w.samples = append(w.samples, s)
}

// run samples until ctx ends; no counter may go back.
func (w *soakWatch) run(ctx context.Context) error {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s, err := w.look()
		if err != nil {
			return err
		}
		if before := w.samples[len(w.samples)-1]; !grown(before.tx, s.tx) || !grown(before.rx, s.rx) {
			return fmt.Errorf("a counter went back: %+v, %+v and then %+v, %+v", before.tx, before.rx, s.tx, s.rx)
		}
		w.samples = append(w.samples, s)
		if len(w.samples)%20 == 0 {
			w.t.Log(s)
		}
	}
}

func grown(before, after api.Counters) bool {
	for reason, n := range before.Drops {
		if after.Drops[reason] < n {
			return false
		}
	}
	return after.Packets >= before.Packets && after.Bytes >= before.Bytes
}

// settle waits until the daemon holds, at rest, no more than it held before.
func (w *soakWatch) settle() {
	w.t.Helper()
	quiet := w.samples[0]
	w.waitFor("goroutines and files to go", func() error {
		s, err := w.look()
		if err == nil && (s.Goroutines > quiet.Goroutines+goroutineSlack || s.OpenFiles > quiet.OpenFiles+fileSlack) {
			err = fmt.Errorf("%v; at first it was %v", s, quiet)
		}
		return err
	})
	w.sample("quiet again")
}

// judge compares the last quarter of the time with the second; the first is for
// warming up.
func (w *soakWatch) judge() {
	w.t.Helper()
	n := len(w.samples)
	early, late := most(w.samples[n/4:n/2]), most(w.samples[3*n/4:])
	w.t.Logf("at most, second quarter: %v", early)
	w.t.Logf("at most, last quarter:   %v", late)
	if late.Goroutines > early.Goroutines+goroutineSlack {
		w.t.Errorf("goroutines grow: %d, and then %d", early.Goroutines, late.Goroutines)
	}
	if late.OpenFiles > early.OpenFiles+fileSlack {
		w.t.Errorf("open files grow: %d, and then %d", early.OpenFiles, late.OpenFiles)
	}
	if late.LiveHeap > early.LiveHeap+early.LiveHeap/4+heapSlack {
		w.t.Errorf("the heap grows: %d bytes, and then %d", early.LiveHeap, late.LiveHeap)
	}
	if late.rss > early.rss+early.rss/5+rssSlack {
		w.t.Errorf("resident memory grows: %d bytes, and then %d", early.rss, late.rss)
	}
}

func most(samples []soakSample) (m soakSample) {
	for _, s := range samples {
		m.when = s.when
		m.Goroutines = max(m.Goroutines, s.Goroutines)
		m.OpenFiles = max(m.OpenFiles, s.OpenFiles)
		m.LiveHeap = max(m.LiveHeap, s.LiveHeap)
		m.rss = max(m.rss, s.rss)
		m.tx, m.rx = s.tx, s.rx
	}
	return m
}

// checkCounters compares what the first two hosts have sent each other with what
// arrived: nothing arrived that was not sent, and what is missing was lost where
// packets are known to be lost. It goes by bytes, for the kernel loses groups of
// datagrams as one.
func (s *soak) checkCounters() {
	s.t.Helper()
	for i := range 2 {
		sender, receiver := s.Hosts[i], s.Hosts[1-i]
		sent, received := s.peerAt(sender, receiver), s.peerAt(receiver, sender)
		missing, lost := int64(sent.TxBytes-received.RxBytes), s.lostBefore(receiver)+int64(received.Drops)*maxDatagram
		s.t.Logf("%s to %s: %d packets sent, %d arrived, %d dropped; %d bytes of %d are missing, up to %d are known to be lost",
			sender.Name, receiver.Name, sent.TxPackets, received.RxPackets, received.Drops, missing, sent.TxBytes, lost)
		if received.RxPackets > sent.TxPackets || missing < 0 || missing > lost {
			s.t.Errorf("from %s to %s %d bytes are missing, want 0 to %d", sender.Name, receiver.Name, missing, lost)
		}
	}
}

// peerAt is what the daemon on h knows of another.
func (s *soak) peerAt(h, other *lab.Host) api.Peer {
	s.t.Helper()
	peers, err := s.peers(h)
	s.must(err)
	for _, p := range peers {
		if p.Endpoint.Addr() == other.Addr() {
			return p
		}
	}
	s.t.Fatalf("%s does not know %s: %+v", h.Name, other.Name, peers)
	return api.Peer{}
}

// maxDatagram is the longest that the kernel can lose at once, in bytes.
const maxDatagram = 65535

// lostBefore bounds how many bytes of inner packets were lost on the way to a
// host's daemon: by the rule, which counts outer packets, one for a group; for
// want of room in its sockets; and in the kernel's backlog.
func (s *soak) lostBefore(h *lab.Host) (bytes int64) {
	s.t.Helper()
	s.must(h.Do(func() error {
		out, err := exec.CommandContext(s.ctx, "nft", "list", "counter", "ip", "soak", "lost").Output()
		if err != nil {
			return fmt.Errorf("read the rule's counter: %w", err)
		}
		var packets int64
		_, counter, _ := strings.Cut(string(out), "packets")
		if _, err := fmt.Sscanf(counter, "%d bytes %d", &packets, &bytes); err != nil {
			return fmt.Errorf("read the rule's counter in %q: %w", out, err)
		}
		bytes -= packets * encapsulation
		sockets, err := rcvbufErrors(h)
		if err != nil {
			return err
		}
		backlog, err := backlogDrops()
		bytes += (sockets + backlog - s.backlog) * maxDatagram
		return err
	}))
	return bytes
}

// rcvbufErrors is UDP's RcvbufErrors of a host.
func rcvbufErrors(h *lab.Host) (int64, error) {
	counters, err := h.UDPCounters()
	if err != nil {
		return 0, err
	}
	n, found := counters["RcvbufErrors"]
	if !found {
		return 0, fmt.Errorf("no RcvbufErrors of %s in %v", h.Name, counters)
	}
	return int64(n), nil
}

// backlogDrops is the second column of softnet_stat, of all processors: the whole
// machine's, and so an upper bound.
func backlogDrops() (n int64, err error) {
	f, err := os.Open("/proc/net/softnet_stat")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		drops, err := strconv.ParseInt(strings.Fields(lines.Text())[1], 16, 64)
		if err != nil {
			return 0, err
		}
		n += drops
	}
	return n, nil
}
