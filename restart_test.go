package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twill/internal/daemon"
	"twill/internal/lab"
)

// restartRate is the load of each direction during a restart, in packets a second.
const restartRate = 1000

// startService starts a daemon on h as systemd would, and waits until it is ready.
func (c *cluster) startService(h *lab.Host, args ...string) *lab.Service {
	c.t.Helper()
	s, err := h.StartService(args...)
	c.must(err)
	c.must(s.Ready(c.patient()))
	return s
}

// next starts the next process of a service and waits until it is ready.
func (c *cluster) next(s *lab.Service, args ...string) {
	c.t.Helper()
	c.must(s.Next(args...))
	c.must(s.Ready(c.patient()))
}

// newService makes two hosts with a pod each; the daemon of the first is a service.
func newService(t *testing.T, args ...string) (*cluster, *lab.Service) {
	c := newCluster(t, 2, network(testNetwork))
	s := c.startService(c.Hosts[0], args...)
	c.start(c.Hosts[1])
	for _, h := range c.Hosts {
		c.attach(h)
		c.waitPeers(h, 1)
	}
	c.pingAll()
	return c, s
}

// restartUnderLoad returns what arrived, each way, of streams that ran while the first host's daemon was ended and started again.
func restartUnderLoad(t *testing.T, args []string, end func(*cluster, *lab.Process)) (*lab.Service, [2]lab.StreamReport) {
	c, s := newService(t, args...)
	pods := c.pods()
	var streams [2]*lab.Stream
	for i := range streams {
		stream, err := lab.StartStream(c.ctx, pods[i], pods[1-i], lab.StreamOptions{Rate: restartRate})
		c.must(err)
		streams[i] = stream
	}
	c.waitReceived(streams[:], restartRate/2)
	end(c, s.Process)
	c.next(s, args...)
	counts := []int{streams[0].Report().Received, streams[1].Report().Received}
	c.waitReceived(streams[:], slices.Max(counts)+restartRate/2)
	return s, [2]lab.StreamReport{streams[0].Stop(), streams[1].Stop()}
}

// waitReceived waits until n packets of each stream have arrived.
func (c *cluster) waitReceived(streams []*lab.Stream, n int) {
	c.t.Helper()
	c.waitFor(fmt.Sprintf("%d packets of each stream", n), func() error {
		for i, s := range streams {
			if r := s.Report(); r.Received < n {
				return fmt.Errorf("stream %d: %d of %d packets have arrived", i, r.Received, r.Sent)
			}
		}
		return nil
	})
}

// The packets of a restart wait in the queues and sockets that systemd holds meanwhile.
func TestRestartLosesNothing(t *testing.T) {
	for _, offload := range []string{"auto", "off"} {
		for _, queues := range []string{"1", "2"} {
			t.Run(fmt.Sprintf("offload=%s/queues=%s", offload, queues), func(t *testing.T) {
				args := []string{"--offload", offload, "--queues", queues}
				s, reports := restartUnderLoad(t, args, (*cluster).stop)
				for i, r := range reports {
					t.Logf("direction %d: %d packets, longest gap %v", i, r.Sent, r.LongestGap.Round(time.Millisecond))
					if r.Lost() != 0 || r.Duplicated != 0 || r.SendError != nil {
						t.Errorf("direction %d: %d of %d packets lost, %d duplicated, %v", i, r.Lost(), r.Sent, r.Duplicated, r.SendError)
					}
				}
				for _, what := range []string{"adopted the TUN queues", "adopted the UDP sockets"} {
					if !strings.Contains(s.Log(), what) {
						t.Errorf("the log does not say %q", what)
					}
				}
			})
		}
	}
}

// killedBurst is how many packets a killed daemon may have read but not sent, each way: one burst.
const killedBurst = 64

// A killed daemon loses what it had in its hands, and nothing that waits.
func TestKillLosesOneBurst(t *testing.T) {
	for _, offload := range []string{"auto", "off"} {
		t.Run("offload="+offload, func(t *testing.T) {
			args := []string{"--offload", offload}
			_, reports := restartUnderLoad(t, args, func(_ *cluster, p *lab.Process) { p.Kill() })
			for i, r := range reports {
				t.Logf("direction %d: %d of %d packets lost", i, r.Lost(), r.Sent)
				if r.Lost() > killedBurst || r.Duplicated != 0 {
					t.Errorf("direction %d: %d of %d packets lost, %d duplicated; want at most %d lost", i, r.Lost(), r.Sent, r.Duplicated, killedBurst)
				}
			}
		})
	}
}

// A daemon that restarts with another configuration takes over what fits it and opens the rest anew.
func TestRestartWithOtherConfiguration(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after []string
		want          []string // in the log
	}{
		{"port", nil, []string{"--port", "9285"}, []string{"adopted the TUN queues", "it is bound to"}},
		{"more queues", []string{"--queues", "1"}, []string{"--queues", "2"}, []string{"1 queues are left: want 2", "1 sockets are left: want 2"}},
		{"fewer queues", []string{"--queues", "2"}, []string{"--queues", "1"}, []string{"2 queues are left: want 1", "2 sockets are left: want 1"}},
		{"tun-name", nil, []string{"--tun-name", "other0"}, []string{"tun-name has changed", "adopted the UDP sockets"}},
		{"tso off", nil, []string{"--offload", "uso,udp-segment,udp-gro"}, []string{"adopted the TUN queues", "adopted the UDP sockets"}},
		{"offloads off", nil, []string{"--offload", "off"}, []string{"adopt TUN device twill0, queue 0: its flags", "it receives with UDP_GRO"}},
		{"offloads on", []string{"--offload", "off"}, nil, []string{"adopt TUN device twill0, queue 0: its flags", "adopted the UDP sockets"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := newService(t, tt.before...)
			c.stop(s.Process)
			c.next(s, tt.after...)
			for _, want := range tt.want {
				if !strings.Contains(s.Log(), want) {
					t.Errorf("the log does not say %q:\n%s", want, s.Log())
				}
			}
			c.pingAll()
			// What is in the store now is right for the next run.
			c.stop(s.Process)
			c.next(s, tt.after...)
			for _, want := range []string{"adopted the TUN queues", "adopted the UDP sockets"} {
				if !strings.Contains(s.Log(), want) {
					t.Errorf("after one more restart the log does not say %q:\n%s", want, s.Log())
				}
			}
			c.pingAll()
			links, err := c.Hosts[0].Link().LinkList()
			c.must(err)
			devices := 0
			for _, l := range links {
				if l.Type() == "tuntap" {
					devices++
				}
			}
			if devices != 1 {
				t.Errorf("%d TUN devices are there, want 1", devices)
			}
		})
	}
}

// A device that somebody deleted meanwhile is made anew.
func TestRestartAfterDeviceWasDeleted(t *testing.T) {
	c, s := newService(t)
	c.stop(s.Process)
	twill0, err := c.Hosts[0].Link().LinkByName(defaultTunName)
	c.must(err)
	c.must(c.Hosts[0].Link().LinkDel(twill0))
	c.next(s)
	c.waitPeers(c.Hosts[0], 1)
	c.pingAll()
}

// A start that fails leaves device and store as they were, for the next one.
func TestFailedStartKeepsDescriptors(t *testing.T) {
	c, s := newService(t)
	before := s.Stored()
	c.stop(s.Process)
	// Where the control socket belongs, which comes after device and sockets, is what cannot be removed.
	inTheWay := filepath.Join(daemon.SocketPath(c.Hosts[0].RunDir()), "in the way")
	c.must(os.MkdirAll(inTheWay, 0o755))
	c.must(s.Next())
	code, err := s.Wait(c.patient())
	c.must(err)
	if code != exitFailed {
		t.Fatalf("exit code %d, want %d; it said:\n%s", code, exitFailed, s.Log())
	}
	c.must(os.RemoveAll(filepath.Dir(inTheWay)))
	c.next(s)
	if !strings.Contains(s.Log(), "adopted the TUN queues") {
		t.Errorf("the log does not say that the queues were adopted:\n%s", s.Log())
	}
	if after := s.Stored(); len(after) != len(before) {
		t.Errorf("the store holds %v, want %v", after, before)
	}
	c.waitPeers(c.Hosts[0], 1)
	c.pingAll()
}

// After a stop for good nothing holds the device, and `twill down` removes it.
func TestDownAfterServiceWasStopped(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	s := c.startService(h)
	c.stop(s.Process)
	s.Discard()
	_, err := h.Twill(c.ctx, "down", "--run-dir", h.RunDir(), "--state-dir", h.StateDir())
	c.must(err)
	if _, err := h.Link().LinkByName(defaultTunName); err == nil {
		t.Errorf("%s is still there", defaultTunName)
	}
	if _, err := os.Stat(h.EnvFile()); err == nil {
		t.Errorf("%s is still there", h.EnvFile())
	}
}
