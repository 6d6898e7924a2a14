// Package overlay starts the contenders of the benchmark: each joins the pods of
// two hosts of a lab in its own way, and is the same to everybody afterwards.
//
// The flow: [All] lists the contenders. Find tells whether one can run here;
// Start gives the hosts of a fresh lab their bridges and pods, starts what
// carries packets between them, and returns the [Network] at once. [Network.Await]
// waits until it carries packets. [lab.Lab.Close] ends all of it.
//
// One file each: routes.go and vxlan.go are done by the kernel alone, twill.go and
// flannel.go take their subnets from etcd, and those in userspace that know
// nothing of leases (wireguard.go, fastd.go, tinc.go, openvpn.go) share tun.go.
package overlay

import (
	"context"
	"fmt"
	"time"

	"twill/internal/lab"
)

// Contender is a way to join the pods of two hosts.
type Contender interface {
	// Name identifies it in options, results and charts.
	Name() string
	// Kind says in a few words what it is: who does the work, and whether it
	// encrypts.
	Kind() string
	// Find looks for its program and returns its version. The error says what to
	// install.
	Find() (version string, err error)
	// Start joins the pods of a lab's two hosts, on which nothing runs yet.
	Start(ctx context.Context, l *lab.Lab) (*Network, error)
}

// Network is two hosts joined by a contender, with a pod on each.
type Network struct {
	Pods    [2]*lab.Namespace
	MTU     int            // of the pods, in bytes
	Daemons []*lab.Process // one on each host; none if the kernel does the work
}

// Options are the paths of programs.
type Options struct {
	Twill       string
	Flanneld    string // empty: none
	WireguardGo string // empty: the one that is installed, if any
}

// All are the contenders in the order of the results.
func All(o Options) []Contender {
	return []Contender{
		routes{},
		vxlan{},
		twill{name: "twill", kind: "userspace", path: o.Twill},
		twill{name: "twill-plain", kind: "userspace, --offload=off", path: o.Twill, flags: []string{"--offload=off"}},
		twill{name: "twill-unchecked", kind: "userspace, --spoof-check=off", path: o.Twill, flags: []string{"--spoof-check=off"}},
		flannel{path: o.Flanneld},
		fastd{},
		wireguard{path: o.WireguardGo},
		tinc{},
		openvpn{},
	}
}

// pingTimeout is how long one ping may take while a network comes up.
const pingTimeout = 300 * time.Millisecond

// Await waits until the pods reach each other. The error has the daemons' last
// lines.
func (n *Network) Await(ctx context.Context) error {
	err := lab.WaitFor(ctx, "a ping from pod to pod", func() error {
		one, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		_, err := lab.Ping(one, n.Pods[0], n.Pods[1].Addr(), lab.PingOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, n.lastLines())
	}
	return nil
}

// CheckMTU checks that a packet of the pods' MTU arrives whole.
func (n *Network) CheckMTU(ctx context.Context) error {
	const headers = 20 + 8 // IPv4, ICMP
	whole := lab.PingOptions{Size: n.MTU - headers, DontFragment: true}
	if _, err := lab.Ping(ctx, n.Pods[0], n.Pods[1].Addr(), whole); err != nil {
		return fmt.Errorf("a packet of %d bytes, the MTU of the pods: %w%s", n.MTU, err, n.lastLines())
	}
	return nil
}

// lastLines is what the daemons said last.
func (n *Network) lastLines() (lines string) {
	const count = 5
	for _, d := range n.Daemons {
		lines += fmt.Sprintf("\n%s said last:\n%s", d, d.Tail(count))
	}
	return lines
}
