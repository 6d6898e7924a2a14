package daemon

import (
	"fmt"
	"time"

	"twill/internal/api"
	"twill/subnet"
	"twill/tunnel"
)

const (
	// slowEtcd is how long a read of one key takes in an etcd whose disk or network is in trouble: a healthy one answers within
	// some ms, and after subnet's deadline of seconds it counts as away.
	slowEtcd = time.Second
	// expiryAlarm is how long before its lease expires a host without etcd says so, which leaves somebody time to act.
	expiryAlarm = 4 * time.Hour
	// strangerSeen is how recent the last datagram of somebody without a lease is.
	strangerSeen = 2 * strangersStay * strangersEvery
)

// condition is what is known of this host when its problems are listed.
type condition struct {
	view                                 subnet.View
	underlay, device, subnetFile, bridge string // in what they are in trouble; "": not

	latency    time.Duration // of etcd
	leaseLeft  time.Duration
	leaseKnown bool

	peers census
	// stranger is who sends without a lease, again and again; the zero value: nobody does.
	stranger      tunnel.Sighting
	strangerDrops uint64
}

// findings are what is told of this host. Problems make it degraded. Notices do not: what is wrong elsewhere would else make
// all hosts of a network degraded at once.
type findings struct{ problems, notices []api.Problem }

func (f *findings) problem(code, problem, remedy string) {
	f.problems = append(f.problems, api.Problem{Code: code, Problem: problem, Remedy: remedy})
}

func (f *findings) notice(code, problem, remedy string) {
	f.notices = append(f.notices, api.Problem{Code: code, Problem: problem, Remedy: remedy})
}

func (d *daemon) findings(t *Table) findings {
	stats := d.tunnel.Stats()
	c := d.condition(t.View, takeCensus(t, time.Now()), &stats)
	return c.findings()
}

func (d *daemon) condition(v subnet.View, peers census, stats *tunnel.Stats) condition {
	c := condition{
		view:       v,
		underlay:   d.troubles.underlay.now(),
		device:     d.troubles.device.now(),
		subnetFile: d.troubles.subnetFile.now(),
		bridge:     d.troubles.bridge.now(),
		latency:    d.manager.Latency(),
		peers:      peers,
	}
	c.leaseLeft, c.leaseKnown = d.manager.LeaseLeft()
	if d.strangers.stay.Load() && time.Since(stats.Stranger.At) < strangerSeen {
		c.stranger, c.strangerDrops = stats.Stranger, stats.Rx.Drops[tunnel.DropUnknownEndpoint]
	}
	return c
}

// findings says what is not as it should be, what costs most packets first.
func (c *condition) findings() findings {
	f := findings{[]api.Problem{}, []api.Problem{}} // not null in JSON
	if c.underlay != "" {
		f.problem(api.ProblemUnderlay, "cannot use the underlay: "+c.underlay,
			"give this host its interface and address back, or name others with --iface; a daemon that runs follows by itself")
	}
	if c.device != "" {
		f.problem(api.ProblemDevice, "device or route is not as it should be: "+c.device,
			"look what else on this host changes it (a network manager, a VPN, another overlay) and stop that; twill tries on")
	}
	if c.bridge != "" {
		f.problem(api.ProblemBridge, c.bridge+": its containers are not reached from other hosts",
			"give the container runtime this host's subnet (`twill docker-opts` for Docker) and restart it")
	}
	c.etcdProblems(&f)
	if c.view.ConfigProblem != "" {
		f.problem(api.ProblemConfig, c.view.ConfigProblem,
			"restart twill if the config is as you want it (`twill config get`), else put it right with `twill config set`")
	}
	if c.subnetFile != "" {
		f.problem(api.ProblemSubnetFile, "cannot write the subnet file: "+c.subnetFile,
			"make its directory writable and leave it room; containers that start meanwhile may get a wrong MTU or subnet")
	}
	c.peers.findings(&f)
	if c.stranger.From.IsValid() {
		f.notice(api.ProblemUnknownSender, fmt.Sprintf("%s keeps sending, but no lease has it as its endpoint: %d datagrams were dropped", c.stranger.From, c.strangerDrops),
			"if it is a host of this network, set its --public-ip to that address, or see `twill leases` for why its lease is not used; else keep it from the port by a firewall")
	}
	return f
}

func (c *condition) etcdProblems(f *findings) {
	e := c.view.Etcd
	trouble := etcdTrouble(e)
	switch {
	case e.Serves && c.latency > slowEtcd:
		f.problem(api.ProblemEtcdSlow, fmt.Sprintf("etcd is slow: it took %v for one key", c.latency.Round(time.Millisecond)),
			"look at etcd's disk and network (`etcdctl endpoint status`, its log's \"took too long\"); forwarding does not wait for it, changes do")
	case e.Serves:
	case e.Refuses:
		f.problem(api.ProblemEtcdRefuses, trouble+": "+e.Err, "put right what etcd says; until then forwarding goes on with the last table")
	default:
		f.problem(api.ProblemEtcdAway, trouble+": "+e.Err, "look whether etcd runs and this host reaches it; until then forwarding goes on with the last table")
	}
	if !c.view.Cached.IsZero() {
		f.problem(api.ProblemCached, "lease and peers are those of the cache of "+c.view.Cached.UTC().Format(time.RFC3339)+": hosts that came or moved since are not known",
			"bring etcd back; twill then takes its word by itself")
	}
	if !e.Serves && c.leaseKnown && c.leaseLeft < expiryAlarm {
		left := fmt.Sprintf("expires in %v", c.leaseLeft.Round(time.Minute))
		if c.leaseLeft == 0 {
			left = "may have expired"
		}
		f.problem(api.ProblemLeaseExpiring, fmt.Sprintf("this host's lease of %s %s, and etcd does not renew it; then another host may take the subnet", c.view.Own.Subnet, left),
			"bring etcd back before that")
	}
}

// etcdTrouble says in a word what is wrong with etcd, or "".
func etcdTrouble(e subnet.EtcdState) string {
	switch {
	case e.Serves:
		return ""
	case e.Refuses:
		return "etcd refuses what we ask"
	}
	return "etcd is away"
}
