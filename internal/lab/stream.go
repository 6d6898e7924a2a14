package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// streamRate and streamSize are a stream's defaults, in packets a second and
	// bytes: often enough to see a gap of 10 ms, and no load.
	streamRate = 200
	streamSize = 100

	// seqSize is the packet number at the start of each payload, in bytes.
	seqSize = 8

	// stragglerTime is how long packets under way are awaited after the last.
	stragglerTime = time.Second

	// streamBuffer is the receiver's socket buffer in bytes, for a receiver that
	// gets no processor for a while.
	streamBuffer = 4 << 20

	// catchUp is how many times its rate a stream sends at most, when its process
	// got no processor for a while: all at once would overrun buffers on the way.
	catchUp = 4
)

// StreamOptions shapes a stream. Zero values mean 200 packets/s of 100 bytes.
type StreamOptions struct {
	Rate int // packets a second
	Size int // UDP payload in bytes, at least 8
}

// StreamReport is what arrived of a stream.
type StreamReport struct {
	Sent       int
	Received   int // different packets
	Duplicated int
	Reordered  int           // arrived after one with a higher number
	LongestGap time.Duration // between two arrivals
	SendError  error         // the first that the kernel refused; it counts as sent
}

// Lost is how many packets did not arrive.
func (r StreamReport) Lost() int { return r.Sent - r.Received }

// Stream is a steady flow of numbered UDP packets from one namespace to another.
type Stream struct {
	sender, receiver *net.UDPConn
	opts             StreamOptions
	stop             context.CancelFunc
	sent, received   sync.WaitGroup

	mu      sync.Mutex
	report  StreamReport
	seen    []bool // by number
	highest uint64
	last    time.Time
}

// StartStream starts a stream. It runs until Stop, or until ctx ends, and then
// still wants Stop.
func StartStream(ctx context.Context, from, to *Namespace, o StreamOptions) (*Stream, error) {
	if o.Rate == 0 {
		o.Rate = streamRate
	}
	if o.Size == 0 {
		o.Size = streamSize
	}
	if o.Size < seqSize || o.Size > MaxDatagram {
		return nil, fmt.Errorf("stream with %d-byte packets: want %d to %d", o.Size, seqSize, MaxDatagram)
	}
	receiver, err := listenUDP(to)
	if err != nil {
		return nil, fmt.Errorf("stream to %s: %w", to.Name, err)
	}
	if err := setReceiveBuffer(receiver, streamBuffer); err != nil {
		receiver.Close()
		return nil, fmt.Errorf("stream to %s: %w", to.Name, err)
	}
	sender, err := dialUDP(from, receiver)
	if err != nil {
		receiver.Close()
		return nil, fmt.Errorf("stream from %s: %w", from.Name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Stream{sender: sender, receiver: receiver, opts: o, stop: cancel}
	s.sent.Go(func() { s.send(ctx) })
	s.received.Go(s.receive)
	return s, nil
}

// Stop ends the stream, waits a moment for packets under way and reports.
func (s *Stream) Stop() StreamReport {
	s.stop()
	s.sent.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), stragglerTime)
	defer cancel()
	WaitFor(ctx, "stragglers", func() error { // if they do not come, they are lost
		if lost := s.Report().Lost(); lost > 0 {
			return fmt.Errorf("%d packets are missing", lost)
		}
		return nil
	})
	s.receiver.Close()
	s.received.Wait()
	s.sender.Close()
	return s.Report()
}

// Report is the state of a running stream; packets under way count as lost.
func (s *Stream) Report() StreamReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report
}

// setReceiveBuffer makes the receive buffer as large as asked where this process
// may exceed net.core.rmem_max, and that large where not.
func setReceiveBuffer(conn *net.UDPConn, bytes int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var refused error
	err = raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes)
	})
	if err == nil && refused != nil { // in a user namespace
		return conn.SetReadBuffer(bytes)
	}
	return err
}

// send sends as many packets a tick as the time that has passed asks for, so
// that a late tick does not lower the rate.
func (s *Stream) send(ctx context.Context) {
	every := max(time.Second/time.Duration(s.opts.Rate), time.Millisecond)
	most := catchUp * int(math.Ceil(every.Seconds()*float64(s.opts.Rate)))
	tick := time.NewTicker(every)
	defer tick.Stop()
	packet := make([]byte, s.opts.Size)
	begin, number := time.Now(), 0
	for {
		due := int(time.Since(begin).Seconds()*float64(s.opts.Rate)) + 1
		for due = min(due, number+most); number < due; number++ {
			binary.BigEndian.PutUint64(packet, uint64(number))
			s.mu.Lock()
			s.report.Sent++
			s.mu.Unlock()
			if _, err := s.sender.Write(packet); err != nil {
				s.refused(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Stream) refused(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.report.SendError == nil {
		s.report.SendError = err
	}
}

func (s *Stream) receive() {
	buf := make([]byte, MaxDatagram)
	for {
		n, err := s.receiver.Read(buf)
		if err != nil {
			return // closed
		}
		if n >= seqSize {
			s.arrived(binary.BigEndian.Uint64(buf))
		}
	}
}

// arrived counts packet number seq.
func (s *Stream) arrived(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.report
	if seq >= uint64(r.Sent) {
		return // not one of ours
	}
	now := time.Now()
	if !s.last.IsZero() {
		r.LongestGap = max(r.LongestGap, now.Sub(s.last))
	}
	s.last = now
	for uint64(len(s.seen)) <= seq {
		s.seen = append(s.seen, false)
	}
	switch {
	case s.seen[seq]:
		r.Duplicated++
		return
	case seq < s.highest:
		r.Reordered++
	}
	s.seen[seq] = true
	s.highest = max(s.highest, seq)
	r.Received++
}
