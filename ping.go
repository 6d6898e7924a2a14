package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"twill/internal/api"
	"twill/internal/daemon"
	"twill/internal/terminal"
	"twill/tunnel"
)

const (
	minPingInterval = 20 * time.Millisecond // the daemon sends fifty a second
	maxPingWait     = 4 * time.Second
)

func pingCommand() *cli.Command {
	return &cli.Command{
		Name:      "ping",
		Usage:     "measure the way to a peer over the tunnel itself",
		ArgsUsage: "NODE|SUBNET|ADDRESS",
		Description: "Asks the daemon of the peer that has this node name or node id, holds this subnet,\n" +
			"or holds the subnet of this address. The probes leave and arrive at the sockets\n" +
			"that carry the pods' packets, and are not counted by either end. A peer that runs\n" +
			"Flannel cannot be asked.\n\n" +
			"SIZE counts as the length of a packet of a pod does, headers and all: what is at\n" +
			"most the path MTU that `twill peers` shows has to be answered.\n\n" +
			"Exit code 0: there was an answer; 1: there was none.",
		Flags: []cli.Flag{
			runDirFlag(), jsonFlag(),
			&cli.IntFlag{Name: "c", DefaultText: "until interrupted", Usage: "send `NUMBER` probes"},
			&cli.DurationFlag{Name: "i", Value: time.Second, Usage: "`TIME` between them"},
			&cli.IntFlag{Name: "s", Value: tunnel.MinPing, Usage: "`SIZE` of each in bytes, with DF set"},
			&cli.DurationFlag{Name: "W", Value: time.Second, Usage: "wait `TIME` for each answer"},
		},
		Action: pingAction,
	}
}

func pingAction(c *cli.Context) error {
	p, err := newPinger(c)
	if err != nil {
		return err
	}
	report, err := p.run(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = writeJSON(c.App.Writer, report)
	} else {
		pingSummary(c.App.Writer, report, time.Since(p.begin))
	}
	if err == nil && report.Received == 0 {
		err = exitStatus(exitFailed)
	}
	return err
}

// A pinger asks the daemon for one probe after the other.
type pinger struct {
	socket   string
	to       string
	count    int // 0: no end
	size     int
	interval time.Duration
	wait     time.Duration
	out      io.Writer // for each probe as it is answered
	begin    time.Time
}

func newPinger(c *cli.Context) (*pinger, error) {
	p := &pinger{
		socket: daemon.SocketPath(c.String("run-dir")), to: c.Args().First(),
		count: c.Int("c"), size: c.Int("s"), interval: c.Duration("i"), wait: c.Duration("W"),
		out: c.App.Writer, begin: time.Now(),
	}
	if c.Bool("json") {
		p.out = io.Discard
	}
	switch {
	case c.NArg() != 1 || p.to == "":
		return nil, usagef("ping: want one node, subnet or address, but got %d arguments", c.NArg())
	case p.count < 0 || c.IsSet("c") && p.count == 0:
		return nil, usagef("c: %d: want 1 or more", p.count)
	case p.interval < minPingInterval:
		return nil, usagef("i: %v: want %v or more", p.interval, minPingInterval)
	case p.size < tunnel.MinPing || p.size > tunnel.MaxPing:
		return nil, usagef("s: %d: want %d to %d bytes", p.size, tunnel.MinPing, tunnel.MaxPing)
	case p.wait <= 0 || p.wait > maxPingWait:
		return nil, usagef("W: %v: want more than 0 and at most %v", p.wait, maxPingWait)
	}
	return p, nil
}

// run sends the probes until there were enough, or ctx ends, which is no error.
func (p *pinger) run(ctx context.Context) (api.PingReport, error) {
	report := api.PingReport{Schema: api.Schema, To: p.to, Size: p.size, Probes: []api.PingProbe{}}
	var last api.Peer
	next := time.Now()
	for seq := 1; p.count == 0 || seq <= p.count; seq++ {
		if seq > 1 && !sleepUntil(ctx, next) {
			break
		}
		next = time.Now().Add(p.interval)
		a, err := p.probe(ctx, p.size)
		if ctx.Err() != nil && seq > 1 {
			break
		}
		if err != nil {
			return report, err
		}
		if last = a.Peer; seq == 1 {
			report.Node, report.NodeID, report.Subnet, report.Endpoint = last.Node, last.NodeID, last.Subnet, last.Endpoint
			fmt.Fprintf(p.out, "PING %s (%s) at %s: %d bytes over the tunnel\n", peerName(last), last.Subnet, last.Endpoint, p.size)
		}
		probe := api.PingProbe{Seq: seq, RTT: a.RTT, Error: a.Error}
		report.Probes = append(report.Probes, probe)
		p.say(probe, last)
	}
	sum(&report)
	if report.Received < report.Sent {
		report.Reason, report.Remedy = p.missing(ctx, report, last)
	}
	return report, nil
}

// probe has the daemon send one probe.
func (p *pinger) probe(ctx context.Context, size int) (a api.Ping, err error) {
	query := url.Values{"to": {p.to}, "size": {strconv.Itoa(size)}, "wait": {p.wait.String()}}
	return a, api.Get(ctx, p.socket, api.PingPath+"?"+query.Encode(), &a)
}

func (p *pinger) say(probe api.PingProbe, peer api.Peer) {
	switch {
	case probe.Error != "":
		fmt.Fprintf(p.out, "seq=%d not sent: %s\n", probe.Seq, terminal.Printable(probe.Error))
	case probe.RTT == nil:
		fmt.Fprintf(p.out, "seq=%d no answer in %v\n", probe.Seq, p.wait)
	default:
		fmt.Fprintf(p.out, "%d bytes to %s: seq=%d time=%.3f ms\n", p.size, peer.Endpoint, probe.Seq, 1000**probe.RTT)
	}
}

// missing says why answers are missing and what to do about it, "" where that is not known. Whether only the size is at fault a
// smaller probe tells.
func (p *pinger) missing(ctx context.Context, report api.PingReport, peer api.Peer) (reason, remedy string) {
	if report.Received == 0 && p.size > tunnel.MinPing {
		if small, err := p.probe(ctx, tunnel.MinPing); err == nil && small.RTT != nil {
			return fmt.Sprintf("a probe of %d bytes is answered: the path to %s does not take %d bytes", tunnel.MinPing, peerName(peer), p.size),
				fmt.Sprintf("ping with at most %d bytes, the path MTU as far as it is known; pods' packets are kept to that", small.Peer.PathMTU)
		}
	}
	if peer.Reason != "" {
		return fmt.Sprintf("%s is %s: %s", peerName(peer), peer.State, peer.Reason), peer.Remedy
	}
	return "", ""
}

func peerName(p api.Peer) string {
	if p.Node == "" {
		return p.Subnet.String()
	}
	return terminal.Printable(p.Node)
}

// sum adds the counts and times to a report.
func sum(r *api.PingReport) {
	var times api.PingTimes
	var squares float64
	for _, probe := range r.Probes {
		r.Sent++
		if probe.RTT == nil {
			continue
		}
		rtt := *probe.RTT
		if r.Received == 0 {
			times.Min = rtt
		}
		r.Received++
		times.Min, times.Max = min(times.Min, rtt), max(times.Max, rtt)
		times.Avg += rtt
		squares += rtt * rtt
	}
	if r.Sent > 0 {
		r.Loss = float64(r.Sent-r.Received) / float64(r.Sent)
	}
	if r.Received > 0 {
		n := float64(r.Received)
		times.Avg /= n
		times.MDev = math.Sqrt(max(squares/n-times.Avg*times.Avg, 0))
		r.RTT = &times
	}
}

// pingSummary writes what ping(8) does at its end.
func pingSummary(w io.Writer, r api.PingReport, took time.Duration) {
	fmt.Fprintf(w, "\n--- %s ping statistics ---\n", r.To)
	fmt.Fprintf(w, "%d packets transmitted, %d received, %.0f%% packet loss, time %dms\n", r.Sent, r.Received, 100*r.Loss, took.Milliseconds())
	if t := r.RTT; t != nil {
		fmt.Fprintf(w, "rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", 1000*t.Min, 1000*t.Avg, 1000*t.Max, 1000*t.MDev)
	}
	if r.Reason != "" {
		fmt.Fprintln(w, terminal.Printable(r.Reason))
	}
	if r.Remedy != "" {
		fmt.Fprintln(w, "→ "+terminal.Printable(r.Remedy))
	}
}

// sleepUntil waits until t and returns true, or false if ctx ends before.
func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
