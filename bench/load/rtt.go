package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"twill/bench/report"
	"twill/internal/lab"
)

// rtt sends small datagrams from pod to pod, which come back, and times each:
// one at a time, alone or while a bulk TCP stream runs the same way.
type rtt struct {
	Options
	loaded bool
}

const (
	// rttInterval is the time between two requests: a low load.
	rttInterval = time.Millisecond
	// rttTimeout is when a datagram counts as lost.
	rttTimeout = 250 * time.Millisecond
	// rttSize is the payload in bytes.
	rttSize = 64
	// rttPort is the port of both ends; they are in different namespaces.
	rttPort = 7 // the echo service (RFC 862)
	// warmUp is how long the bulk stream runs before the first request.
	warmUp = 300 * time.Millisecond
)

func (r rtt) Name() string {
	if r.loaded {
		return "rtt-loaded"
	}
	return "rtt"
}

func (r rtt) prefix() (key, label string) {
	if r.loaded {
		return "rtt_loaded_", "under bulk TCP "
	}
	return "rtt_", "alone "
}

func (r rtt) Metrics() []report.Metric {
	key, label := r.prefix()
	return []report.Metric{
		{Key: key + "p50", Label: label + "p50", Unit: "µs", Topic: report.Latency, Better: report.Lower},
		{Key: key + "p99", Label: label + "p99", Unit: "µs", Topic: report.Latency, Better: report.Lower},
		{Key: key + "max", Label: label + "max", Unit: "µs", Topic: report.Latency},
		{Key: key + "lost", Label: label + "lost", Unit: "%", Topic: report.Latency},
	}
}

func (r rtt) Measure(ctx context.Context, p Path) (report.Values, error) {
	length := seconds(r.Seconds)
	var background *bulk
	if r.loaded {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var err error
		// Longer than needed: it is ended when the last answer is there.
		background, err = startBulk(ctx, p, 2*length+rttTimeout, "--time", strconv.Itoa(2*r.Seconds+1), "--congestion", r.Congestion)
		if err != nil {
			return nil, err
		}
		defer func() { cancel(); <-background.done }()
		time.Sleep(warmUp)
	}
	times, lost, err := pingPong(ctx, p, length)
	if err != nil {
		return nil, err
	}
	if r.loaded {
		select {
		case <-background.done:
			return nil, fmt.Errorf("the bulk stream ended too early: %v", background.err)
		default:
		}
	}
	return r.values(times, lost)
}

func (r rtt) values(times []float64, lost int) (report.Values, error) {
	if len(times) == 0 {
		return nil, fmt.Errorf("all %d datagrams were lost", lost)
	}
	key, _ := r.prefix()
	return report.Values{
		key + "p50":  report.Quantile(times, 0.50),
		key + "p99":  report.Quantile(times, 0.99),
		key + "max":  slices.Max(times),
		key + "lost": 100 * float64(lost) / float64(lost+len(times)),
	}, nil
}

// pingPong exchanges datagrams for the time given. It returns the round trips in
// µs. Both ends are blocking sockets on threads of their own, so that Go's poller
// adds nothing.
func pingPong(ctx context.Context, p Path, length time.Duration) (times []float64, lost int, err error) {
	server, err := openSocket(p.To, p.From.Addr())
	if err != nil {
		return nil, 0, err
	}
	client, err := openSocket(p.From, p.To.Addr())
	if err != nil {
		unix.Close(server)
		return nil, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	echoed := make(chan error, 1)
	go func() { echoed <- p.To.Do(func() error { return echo(ctx, server) }) }()

	err = p.From.Do(func() (err error) {
		times, lost, err = request(ctx, client, length)
		return err
	})
	cancel()
	err = errors.Join(err, <-echoed)
	unix.Close(server)
	unix.Close(client)
	return times, lost, err
}

// openSocket opens a UDP socket that speaks with the address alone.
func openSocket(n *lab.Namespace, other netip.Addr) (fd int, err error) {
	err = n.Do(func() error {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		timeout := unix.NsecToTimeval(rttTimeout.Nanoseconds())
		err := errors.Join(
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
			unix.Bind(fd, &unix.SockaddrInet4{Port: rttPort, Addr: n.Addr().As4()}),
			unix.Connect(fd, &unix.SockaddrInet4{Port: rttPort, Addr: other.As4()}))
		if err != nil {
			unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("open a socket in %s: %w", n.Name, err)
	}
	return fd, nil
}

// echo answers until ctx ends; it looks at each receive timeout.
func echo(ctx context.Context, fd int) error {
	buf := make([]byte, rttSize)
	for ctx.Err() == nil {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("echo: receive: %w", err)
		}
		if _, err := unix.Write(fd, buf[:n]); err != nil {
			return fmt.Errorf("echo: send: %w", err)
		}
	}
	return nil
}

// request sends a request at each interval and waits for its answer.
func request(ctx context.Context, fd int, length time.Duration) (times []float64, lost int, err error) {
	times = make([]float64, 0, length/rttInterval+1)
	packet, answer := make([]byte, rttSize), make([]byte, rttSize)
	for begin := time.Now(); ctx.Err() == nil && time.Since(begin) < length; {
		sent := time.Now()
		number := len(times) + lost
		packet[0], packet[1] = byte(number>>8), byte(number)
		if _, err := unix.Write(fd, packet); err != nil {
			return nil, 0, fmt.Errorf("send a request: %w", err)
		}
		switch err := await(fd, packet, answer); err {
		case nil:
			times = append(times, float64(time.Since(sent).Nanoseconds())/1e3)
		case unix.EAGAIN:
			lost++
		default:
			return nil, 0, fmt.Errorf("receive an answer: %w", err)
		}
		pause(rttInterval - time.Since(sent))
	}
	return times, lost, ctx.Err()
}

// await reads until the answer to packet comes; a late one to an earlier packet
// has been counted as lost already.
func await(fd int, packet, answer []byte) error {
	for {
		_, err := unix.Read(fd, answer)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case answer[0] == packet[0] && answer[1] == packet[1]:
			return nil
		}
	}
}

// pause sleeps in the thread, which the next request needs at once.
func pause(d time.Duration) {
	if d > 0 {
		t := unix.NsecToTimespec(d.Nanoseconds())
		unix.Nanosleep(&t, nil)
	}
}
