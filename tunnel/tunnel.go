// Package tunnel carries IPv4 packets between the pods of this host and those of its peers.
//
// The packet's journey, outbound (outbound.go):
//
//  1. Queue.Read takes a burst of packets from the TUN device.
//  2. The header is checked, the destination looked up in the Table, the TTL decremented. What cannot go on is dropped
//     with a reason; the sender may get an ICMP error.
//  3. Super-packets are cut into segments and checksums finished (split.go).
//  4. Conn.Send hands the burst to the UDP socket, many packets to one peer in one send (sender.go); the whole inner packet
//     is the UDP payload, nothing is added to it.
//
// And inbound (inbound.go):
//
//  5. Conn.Receive takes a burst of datagrams from the UDP socket (receiver.go).
//  6. Each must hold a sane packet, come from the host that holds the lease of its source, and be for our own subnet.
//  7. Queue.Write hands the packets to the TUN device, runs of one flow merged into super-packets (merge.go).
//
// Each queue of the device is paired with one socket and served by two goroutines, one for each direction. Between them
// they share the Table, an immutable snapshot loaded once a burst, and nothing else. On these paths nothing allocates,
// locks, logs or formats.
//
// Beside them the prober (prober.go) asks the peers that run twill how they are, in control datagrams (control.go), and finds how
// large the packets to each may be (pathmtu.go). What the network says about those that do not answer the inquirer (inquirer.go) reads.
//
// Lengths are in bytes and count the inner IP packet with its header, without the outer IP and UDP headers. Bursts belong
// to the Queue or Conn that returned them and are valid until its next Read or Receive; until then the tunnel may rewrite
// them in place.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config is what a Tunnel is made of. Device and Conns stay the caller's to close, after Run has returned; see also Rebind.
type Config struct {
	// Device is the TUN device. Its queue i is paired with Conns[i].
	Device Device
	// Conns are the UDP sockets, as many as Device has queues.
	Conns []Conn
	// Address is the tunnel's own IPv4 address, the source of its ICMP errors.
	Address netip.Addr
	// MTU is that of the device, in bytes; 0 if it is not known. No path has to take more.
	MTU int
	// ProbeInterval is the time between probes to a peer with which packets are exchanged. 0: no peer is probed.
	ProbeInterval time.Duration
	// Observer is told what probes find out; nil: nobody is.
	Observer Observer
	// SpoofCheck says how far the source of a packet is checked.
	SpoofCheck SpoofCheck
	// DirectedBroadcast lets packets to the broadcast address of a subnet out to its holder, and those to our own in.
	DirectedBroadcast bool
	// Log is for the few events of the tunnel's life; nil discards them.
	Log *slog.Logger
}

// An Observer is told of each measurement, by a goroutine that must not wait for it.
type Observer interface {
	// ProbeSent is told of each probe for a round-trip time.
	ProbeSent()
	// RoundTrip is told the round-trip time of each answered one.
	RoundTrip(rtt time.Duration)
	// Losses is told, about every lossWindow for each peer that answers, what was lost of the packets to it and from it since it was
	// told before.
	Losses(out, in Loss)
}

// nobody is the Observer of a tunnel without one.
type nobody struct{}

func (nobody) ProbeSent()              {}
func (nobody) RoundTrip(time.Duration) {}
func (nobody) Losses(_, _ Loss)        {}

// A Tunnel moves packets between a TUN device and UDP sockets while Run runs. Its other methods may be called at any time.
type Tunnel struct {
	device Device
	lanes  []lane
	table  atomic.Pointer[Table]
	hosts  atomic.Pointer[hostAddresses]
	prober *prober
	asker  *inquirer
	log    *slog.Logger

	mu          sync.Mutex // of Rebind and interrupt
	interrupted bool
}

// A lane is one queue of the device with its socket and the two directions between them.
type lane struct {
	queue    Queue
	conn     *connRef
	outbound *outbound
	inbound  *inbound
}

// New returns a Tunnel that drops everything until SetTable gives it a table. It starts nothing.
func New(config Config) (*Tunnel, error) {
	if config.Device == nil {
		return nil, errors.New("tunnel has no device")
	}
	queues := config.Device.Queues()
	if len(queues) == 0 || len(queues) != len(config.Conns) {
		return nil, fmt.Errorf("%d sockets for the %d queues of %s: want one for each queue",
			len(config.Conns), len(queues), config.Device.Name())
	}
	if !config.Address.Is4() {
		return nil, fmt.Errorf("tunnel address %v: want an IPv4 address", config.Address)
	}
	if config.SpoofCheck > SpoofOff {
		return nil, fmt.Errorf("spoof check %v: want strict, source or off", config.SpoofCheck)
	}
	if config.Observer == nil {
		config.Observer = nobody{}
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}

	t := &Tunnel{device: config.Device, log: config.Log.With("device", config.Device.Name())}
	t.SetTable(NewTable(netip.Prefix{}, nil))
	t.SetHostAddresses(nil)
	t.prober = newProber(t, config)
	t.asker = newInquirer(t)
	for i, queue := range queues {
		conn := newConnRef(config.Conns[i])
		t.lanes = append(t.lanes, lane{
			queue:    queue,
			conn:     conn,
			outbound: newOutbound(t, queue, conn, config),
			inbound:  newInbound(t, conn, queue, config),
		})
	}
	return t, nil
}

// conn returns the socket that control datagrams are sent from.
func (t *Tunnel) conn() Conn { return t.lanes[0].conn.load() }

// SetTable puts table in force from the next burst of every queue on. An empty table, without own subnet and peers, fences
// the tunnel: everything is dropped, silently.
func (t *Tunnel) SetTable(table *Table) {
	t.table.Store(table)
}

// Run moves packets until ctx is done; then it sends on what it has read and returns nil within milliseconds. It returns an error
// as soon as one queue or socket can no longer be read, or the device is gone: there is no half-dead tunnel.
func (t *Tunnel) Run(ctx context.Context) error {
	t.log.Debug("tunnel runs", "queues", len(t.lanes))
	group, ctx := errgroup.WithContext(ctx)
	for i := range t.lanes {
		lane := &t.lanes[i]
		group.Go(func() error { return inLane(ctx, "outbound", i, lane.outbound.burst) })
		group.Go(func() error { return inLane(ctx, "inbound", i, lane.inbound.burst) })
	}
	group.Go(func() error { return t.prober.run(ctx) })
	group.Go(func() error { return t.asker.run(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		return t.interrupt()
	})
	return group.Wait()
}

// inLane moves bursts in one direction of lane i until the queue or the socket can no longer be used. An error after the end of ctx is
// only how the direction was stopped.
func inLane(ctx context.Context, direction string, i int, burst func() error) error {
	for {
		err := burst()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		default:
			return fmt.Errorf("%s queue %d: %w", direction, i, err)
		}
	}
}

// sendGrace is how long, at the end of Run, a burst that was read waits for room in the send buffer of a socket.
const sendGrace = 200 * time.Millisecond

// interrupt ends all waiting reads, and those to come, with a deadline in the past. What was read still goes out, and what was
// not stays in the queue or socket, for the next process if it gets the descriptor. Closing would end reads too, but the
// descriptors are not ours, and a number that is free again may already be another file.
func (t *Tunnel) interrupt() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.interrupted = true
	var errs []error
	for i, lane := range t.lanes {
		if err := errors.Join(lane.queue.SetReadDeadline(past), endConn(lane.conn.load(), sendGrace)); err != nil {
			errs = append(errs, fmt.Errorf("interrupt queue %d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// past is a deadline that ends what waits, and what is to come.
var past = time.Unix(1, 0)

// endConn ends all reads of conn at once, and sends after grace.
func endConn(conn Conn, grace time.Duration) error {
	return errors.Join(conn.SetReadDeadline(past), conn.SetWriteDeadline(time.Now().Add(grace)))
}
