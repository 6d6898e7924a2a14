package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// iperfPort is iperf3's own.
	iperfPort = "5201"

	// iperfGrace is how much longer than its test iperf3 may take: its control
	// connection shares a path that is overrun on purpose, and perhaps a busy machine.
	iperfGrace = 30 * time.Second

	// iperfRetry is the pause before a client tries again to connect.
	iperfRetry = 10 * time.Millisecond
)

// Check tells whether iperf3 is here, and if not what to install.
func Check() error {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return fmt.Errorf("the bench needs iperf3 (apt-get install iperf3): %w", err)
	}
	return nil
}

// iperfReport is the part of iperf3's JSON that is used.
type iperfReport struct {
	End struct {
		Sent     iperfSum `json:"sum_sent"`
		Received iperfSum `json:"sum_received"`
	} `json:"end"`
	Error string `json:"error"`
}

// iperfSum adds up all streams.
type iperfSum struct {
	Seconds     float64 `json:"seconds"`
	Bytes       float64 `json:"bytes"`
	Packets     float64 `json:"packets"`
	Retransmits float64 `json:"retransmits"`
}

// bulk is a running iperf3 server and client.
type bulk struct {
	done   chan struct{} // closed when report and err are there
	report iperfReport
	err    error
}

// startBulk starts a test of about the length given, with the client's
// arguments. It ends when ctx does, or by itself.
func startBulk(ctx context.Context, p Path, length time.Duration, args ...string) (*bulk, error) {
	ctx, cancel := context.WithTimeout(ctx, length+iperfGrace)
	server := iperf(ctx, "--server", "--one-off", "--bind", p.To.Addr().String(), "--port", iperfPort)
	if err := p.To.Do(server.Start); err != nil {
		cancel()
		return nil, fmt.Errorf("start iperf3 in %s: %w", p.To.Name, err)
	}
	b := &bulk{done: make(chan struct{})}
	go func() {
		defer close(b.done)
		b.report, b.err = runClient(ctx, p, args)
		cancel() // ends a server that waits still
		server.Wait()
	}()
	return b, nil
}

// runBulk runs a test to its end.
func runBulk(ctx context.Context, p Path, length time.Duration, args ...string) (iperfReport, error) {
	b, err := startBulk(ctx, p, length, args...)
	if err != nil {
		return iperfReport{}, err
	}
	<-b.done
	return b.report, b.err
}

// runClient runs the client, again and again until the server listens.
func runClient(ctx context.Context, p Path, args []string) (iperfReport, error) {
	args = append([]string{"--json", "--client", p.To.Addr().String(), "--port", iperfPort}, args...)
	for {
		var out bytes.Buffer
		client := iperf(ctx, args...)
		client.Stdout = &out
		if err := p.From.Do(client.Start); err != nil {
			return iperfReport{}, fmt.Errorf("start iperf3 in %s: %w", p.From.Name, err)
		}
		exit := client.Wait()
		report, err := parseIperf(out.Bytes(), exit)
		if ctx.Err() != nil {
			return iperfReport{}, fmt.Errorf("iperf3: %w", context.Cause(ctx))
		}
		if !errors.Is(err, errRefused) {
			return report, err
		}
		time.Sleep(iperfRetry)
	}
}

// iperf is an iperf3 that ends with ctx.
func iperf(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "iperf3", args...)
}

// errRefused says that no server listens yet.
var errRefused = errors.New("connection refused")

// parseIperf reads the JSON of a client that ended with the error exit.
func parseIperf(text []byte, exit error) (r iperfReport, err error) {
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("iperf3 (%v) printed no JSON: %w: %.200q", exit, err, text)
	}
	switch {
	case strings.Contains(r.Error, "Connection refused"):
		return r, errRefused
	case r.Error != "":
		return r, fmt.Errorf("iperf3: %s", r.Error)
	case exit != nil:
		return r, fmt.Errorf("iperf3: %w", exit)
	}
	return r, nil
}

// seconds is a whole number of seconds as a duration.
func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
