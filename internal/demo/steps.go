package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"twill/internal/api"
	"twill/internal/lab"
)

const (
	// network is the overlay's address range.
	network = "10.5.0.0/16"

	// leaseGrace is the daemons' --lease-grace: how long they go on using a
	// lease that vanished. The default of a minute is longer than the demo.
	leaseGrace = 2 * time.Second

	// transferBytes is what is moved in each direction.
	transferBytes = 64 << 20

	// outage is how long etcd is away, and outageRate the packets a second that
	// must all arrive in the meantime.
	outage     = 3 * time.Second
	outageRate = 500
)

// steps are the story. Hosts that are kept shall all be there at its end.
func (s *story) steps() []step {
	steps := []step{
		{"building hosts", s.build},
		{"starting twill on each host", s.start},
		{"giving each host a bridge and a pod", s.attach},
		{"pinging every pod from every pod", s.ping},
		{"reading the leases", s.leases},
		{"asking for the peers", s.peers},
		{"moving data by TCP", s.transfer},
		{"making Docker's options", s.dockerOptions},
		{"stopping etcd while packets flow", s.stopEtcd},
		{"starting etcd again", s.restartEtcd},
		{"taking a host out", s.release},
	}
	if s.keep {
		steps = append(steps, step{"taking it in again", s.rejoin})
	}
	return steps
}

func (s *story) build(ctx context.Context) (did, details string, err error) {
	if s.lab, err = lab.New(lab.Options{Hosts: s.hosts}); err != nil {
		return "", "", err
	}
	if err := s.lab.StartEtcd(ctx); err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%d hosts on one switch, and an etcd", s.hosts), "", nil
}

func (s *story) start(ctx context.Context) (did, details string, err error) {
	for _, h := range s.lab.Hosts {
		d, err := s.startDaemon(h)
		if err != nil {
			return "", "", err
		}
		s.daemons = append(s.daemons, d)
	}
	for _, d := range s.daemons {
		if err := d.Ready(ctx); err != nil {
			return "", "", err
		}
	}
	return "twill runs on each host and holds a subnet", "", nil
}

func (s *story) attach(context.Context) (did, details string, err error) {
	for _, h := range s.lab.Hosts {
		pod, err := h.Attach()
		if err != nil {
			return "", "", err
		}
		s.pods = append(s.pods, pod)
	}
	return "each host has a bridge and a pod, as Docker makes them", topology(s.lab), nil
}

// ping waits for the tables first: a daemon is ready when it knows the peers of
// that moment, and the last host came after the first.
func (s *story) ping(ctx context.Context) (did, details string, err error) {
	for _, h := range s.lab.Hosts {
		if err := s.awaitPeers(ctx, h, s.hosts-1); err != nil {
			return "", "", err
		}
	}
	rtt, err := lab.PingAll(ctx, s.pods, lab.PingOptions{})
	if err != nil {
		return "", "", err
	}
	pings := s.hosts * (s.hosts - 1)
	s.pings += pings
	return fmt.Sprintf("every pod reaches every pod: %d pings, all answered", pings), matrix(s.lab, rtt), nil
}

func (s *story) leases(ctx context.Context) (did, details string, err error) {
	h := s.lab.Hosts[0]
	details, err = s.command(ctx, h, "leases", "--etcd-endpoints", s.lab.EtcdEndpoint())
	return "the leases, as etcd has them", details, err
}

func (s *story) peers(ctx context.Context) (did, details string, err error) {
	h := s.lab.Hosts[0]
	details, err = s.command(ctx, h, "peers", "--run-dir", h.RunDir())
	return "the peers, as " + h.Name + " sees them", details, err
}

func (s *story) transfer(ctx context.Context) (did, details string, err error) {
	var lines strings.Builder
	a, b := s.pods[0], s.pods[1]
	for _, way := range [][2]*lab.Namespace{{a, b}, {b, a}} {
		r, err := lab.Transfer(ctx, way[0], way[1], transferBytes)
		if err != nil {
			return "", "", err
		}
		s.rate = max(s.rate, r.BitsPerSecond())
		fmt.Fprintf(&lines, "%s → %s  %s\n", way[0].Name, way[1].Name, bitRate(r.BitsPerSecond()))
	}
	return fmt.Sprintf("moved %d MiB each way by TCP; every byte arrived", transferBytes>>20), lines.String(), nil
}

func (s *story) dockerOptions(ctx context.Context) (did, details string, err error) {
	h := s.lab.Hosts[0]
	env, err := os.ReadFile(h.EnvFile())
	if err != nil {
		return "", "", err
	}
	file := filepath.Join(h.RunDir(), "docker")
	made, err := s.command(ctx, h, "docker-opts", "-f", h.EnvFile(), "-d", file)
	if err != nil {
		return "", "", err
	}
	options, err := os.ReadFile(file)
	if err != nil {
		return "", "", err
	}
	details = s.screen.prompt(h.Name, "cat "+h.EnvFile()) + string(env) +
		made + s.screen.prompt(h.Name, "cat "+file) + string(options)
	return "what " + h.Name + " tells its Docker", details, nil
}

func (s *story) stopEtcd(ctx context.Context) (did, details string, err error) {
	s.stream, err = lab.StartStream(ctx, s.pods[0], s.pods[1], lab.StreamOptions{Rate: outageRate})
	if err != nil {
		return "", "", err
	}
	s.lab.StopEtcd()
	want := int(outage.Seconds() * outageRate)
	err = lab.WaitFor(ctx, "packets from pod to pod", func() error {
		if r := s.stream.Report(); r.Sent < want {
			return fmt.Errorf("%d of %d are sent", r.Sent, want)
		}
		return nil
	})
	if err != nil {
		return "", "", err
	}
	rtt, err := lab.PingAll(ctx, s.pods, lab.PingOptions{})
	if err != nil {
		return "", "", fmt.Errorf("with etcd stopped: %w", err)
	}
	s.pings += len(rtt) * (len(rtt) - 1)
	return "stopped etcd: every pod still reaches every pod", "", nil
}

func (s *story) restartEtcd(ctx context.Context) (did, details string, err error) {
	if err := s.lab.StartEtcd(ctx); err != nil {
		return "", "", err
	}
	r := s.stream.Stop()
	s.stream = nil
	s.outagePacks = r.Sent
	details = fmt.Sprintf("%s → %s  sent %d  lost %d  duplicated %d  reordered %d  longest gap %d ms\n",
		s.pods[0].Name, s.pods[1].Name, r.Sent, r.Lost(), r.Duplicated, r.Reordered, r.LongestGap.Milliseconds())
	if r.Lost() > 0 || r.SendError != nil {
		return "", "", fmt.Errorf("packets were lost while etcd was away (send error: %v): %s", r.SendError, details)
	}
	return "started etcd again; meanwhile no packet was lost", details, nil
}

// release takes the last host out as its owner would, and waits until the others
// have dropped it.
func (s *story) release(ctx context.Context) (did, details string, err error) {
	last := len(s.lab.Hosts) - 1
	gone, first := s.lab.Hosts[last], s.lab.Hosts[0]
	if err := s.daemons[last].stop(ctx); err != nil {
		return "", "", err
	}
	if _, err := gone.Twill(ctx, "down", "--run-dir", gone.RunDir(), "--state-dir", gone.StateDir(),
		"--release-lease", "--etcd-endpoints", s.lab.EtcdEndpoint()); err != nil {
		return "", "", err
	}
	for _, h := range s.lab.Hosts[:last] {
		if err := s.awaitPeers(ctx, h, last-1); err != nil {
			return "", "", err
		}
	}
	leases, err := s.command(ctx, first, "leases", "--etcd-endpoints", s.lab.EtcdEndpoint())
	if err != nil {
		return "", "", err
	}
	peers, err := s.command(ctx, first, "peers", "--run-dir", first.RunDir())
	return "took " + gone.Name + " out: the others have dropped it", leases + peers, err
}

// rejoin starts the daemon of the host that was taken out. It may get another
// subnet, so its bridge and pod are made anew; and the bridge must be gone
// before, because the daemon takes its address for a stranger's in the overlay.
func (s *story) rejoin(ctx context.Context) (did, details string, err error) {
	last := len(s.lab.Hosts) - 1
	h := s.lab.Hosts[last]
	if err := h.RemoveBridge(); err != nil {
		return "", "", err
	}
	if s.daemons[last], err = s.startDaemon(h); err != nil {
		return "", "", err
	}
	if err := s.daemons[last].Ready(ctx); err != nil {
		return "", "", err
	}
	if s.pods[last], err = h.Attach(); err != nil {
		return "", "", err
	}
	did, details, err = s.ping(ctx)
	return "took " + h.Name + " in again: " + did, details, err
}

// command runs twill on a host and returns the prompt with what it printed.
func (s *story) command(ctx context.Context, h *lab.Host, args ...string) (string, error) {
	out, err := h.Twill(ctx, args...)
	return s.screen.prompt(h.Name, "twill "+strings.Join(args, " ")) + out, err
}

// awaitPeers waits until a host's daemon knows n peers.
func (s *story) awaitPeers(ctx context.Context, h *lab.Host, n int) error {
	return lab.WaitFor(ctx, fmt.Sprintf("%d peers on %s", n, h.Name), func() error {
		out, err := h.Twill(ctx, "peers", "--run-dir", h.RunDir(), "--json")
		if err != nil {
			return err
		}
		var peers api.Peers
		if err := json.Unmarshal([]byte(out), &peers); err != nil {
			return err
		}
		if len(peers.Peers) != n {
			return fmt.Errorf("it has %d: %v", len(peers.Peers), subnets(peers))
		}
		return nil
	})
}

func subnets(peers api.Peers) (list []netip.Prefix) {
	for _, p := range peers.Peers {
		list = append(list, p.Subnet)
	}
	return list
}
