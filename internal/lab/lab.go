// Package lab builds hosts on one machine: network namespaces that stand for
// hosts, joined by a switch, each with a bridge and pods as Docker would make
// them, and with real processes of the program under test. The demo, the tests
// and the benchmarks share it.
//
//	 the lab's own namespace (etcd runs here)
//	┌───────────────────────────────────────────────────────────────┐
//	│ switch 198.18.0.254/24                                        │
//	└──┬──────────────────────────────┬─────────────────────────────┘
//	   │ eth0 198.18.0.1/24           │ eth0 198.18.0.2/24
//	┌──┴───────────── host1 ──┐    ┌──┴───────────── host2 ──┐
//	│ twill run … twill0      │    │ twill run … twill0      │
//	│ docker0 10.5.1.1/24     │    │ docker0 10.5.2.1/24     │
//	│   │ eth0 10.5.1.2/24    │    │   │ eth0 10.5.2.2/24    │
//	│ ┌─┴─ host1-pod1 ─┐      │    │ ┌─┴─ host2-pod1 ─┐      │
//	└─┴────────────────┴──────┘    └─┴────────────────┴──────┘
//
// The flow: [Enter] (or [Main] in tests) moves the whole program into namespaces
// that vanish with it. [New] makes the switch and the hosts. [Lab.StartEtcd] and
// [Host.StartDaemon] start processes, [Host.Attach] adds the bridge and a pod as
// the daemon's subnet.env says. [Ping], [Transfer], [Echo] and [StartStream]
// make traffic; the methods in world.go change the underlay below it. [Lab.Close]
// ends the processes and removes everything.
//
// It is all netlink and system calls; no ip, iptables or etcd program is needed.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"

	"twill/internal/embedetcd"
)

const (
	// MaxHosts bounds the hosts of one lab: their addresses are .1 to .99 of
	// the underlay's /24.
	MaxHosts = 99

	// underlayMTU is Ethernet's.
	underlayMTU = 1500

	// switchHost is the switch's host number in the underlay.
	switchHost = 254

	// spareHost plus a host's number is an address to move it to.
	spareHost = 100
)

// Options says what to build.
type Options struct {
	// Hosts is how many hosts to make, 1 to [MaxHosts].
	Hosts int
	// Command is the program under test and its first arguments. Nil runs this
	// same program; a test binary is told by Env to act as twill.
	Command []string
	// Env is added to the environment of the program under test.
	Env []string
	// Output receives a copy of what the processes print, each line with the
	// host's name before it. Nil keeps it only for [Process.Log].
	Output io.Writer
	// Log receives etcd's warnings. Nil discards them.
	Log *slog.Logger
}

// Lab is a switch with hosts. Its methods may be called from one goroutine.
type Lab struct {
	Hosts []*Host

	opts     Options
	nested   []*Host // pods as hosts; their namespaces are the pods'
	number   int
	underlay netip.Prefix
	dir      string
	link     *netlink.Handle // of the lab's own namespace
	bridge   string
	carrier  string // see Carrier
	etcd     *embedetcd.Server
}

// New builds the switch and the hosts, and nothing on them yet. The program must
// have been through [Enter]. Several labs may exist at a time; each has its own
// switch and underlay prefix.
func New(opts Options) (*Lab, error) {
	if opts.Hosts < 1 || opts.Hosts > MaxHosts {
		return nil, fmt.Errorf("lab with %d hosts: want 1 to %d", opts.Hosts, MaxHosts)
	}
	if os.Getenv(insideEnv) == "" || os.Getpid() != 1 {
		return nil, errors.New("lab: this process is not in namespaces of its own; call lab.Enter first")
	}
	if len(opts.Command) == 0 {
		opts.Command = []string{"/proc/self/exe"}
	}
	number, err := takeNumber()
	if err != nil {
		return nil, err
	}
	l := &Lab{
		opts:     opts,
		number:   number,
		underlay: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + number>>8), byte(number), 0}), 24),
		dir:      filepath.Join("/run", fmt.Sprintf("lab%d", number)),
		bridge:   fmt.Sprintf("switch%d", number),
		carrier:  uplink,
	}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build() (err error) {
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if l.link, err = netlink.NewHandle(); err != nil {
		return fmt.Errorf("lab: open netlink: %w", err)
	}
	if err := l.addSwitch(); err != nil {
		return err
	}
	for i := 1; i <= l.opts.Hosts; i++ {
		h, err := l.addHost(i)
		if err != nil {
			return err
		}
		l.Hosts = append(l.Hosts, h)
	}
	return nil
}

// addSwitch makes the bridge that joins the hosts, in the lab's own namespace.
func (l *Lab) addSwitch() error {
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: l.bridge, MTU: underlayMTU}}
	if err := l.link.LinkAdd(br); err != nil {
		return fmt.Errorf("add switch %s: %w", l.bridge, err)
	}
	addr := netip.PrefixFrom(l.Addr(), l.underlay.Bits())
	if err := l.link.AddrAdd(br, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("add %s to switch %s: %w", addr, l.bridge, err)
	}
	if err := l.link.LinkSetUp(br); err != nil {
		return fmt.Errorf("set switch %s up: %w", l.bridge, err)
	}
	return nil
}

// Underlay is the /24 from 198.18.0.0/15 (RFC 2544) that the hosts share.
func (l *Lab) Underlay() netip.Prefix { return l.underlay }

// Addr is the lab's own address in the underlay: the hosts' default gateway, and
// where etcd listens.
func (l *Lab) Addr() netip.Addr { return nth(l.underlay, switchHost) }

// Close ends every process and removes links, namespaces and files. It takes at
// most a few seconds. It may be called twice.
func (l *Lab) Close() error {
	var wg sync.WaitGroup
	for _, h := range append(l.nested, l.Hosts...) {
		wg.Go(h.stopAll)
	}
	wg.Wait()
	l.StopEtcd()
	for _, h := range l.Hosts {
		h.close()
	}
	l.Hosts, l.nested = nil, nil

	var err error
	if l.link != nil {
		if br, findErr := l.link.LinkByName(l.bridge); findErr == nil {
			err = l.link.LinkDel(br)
		}
		l.link.Close()
		l.link = nil
		releaseNumber(l.number)
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

// StartEtcd starts an etcd on the lab's address, on the same port and with the
// same data each time. ctx bounds the start only.
func (l *Lab) StartEtcd(ctx context.Context) error {
	s, err := embedetcd.Start(ctx, embedetcd.Config{
		Dir:    filepath.Join(l.dir, "etcd"),
		Listen: netip.AddrPortFrom(l.Addr(), etcdPort),
		NoSync: true,
		Log:    l.opts.Log,
	})
	if err != nil {
		return err
	}
	l.etcd = s
	return nil
}

// StopEtcd stops etcd, if it runs, and keeps its data.
func (l *Lab) StopEtcd() {
	if l.etcd != nil {
		l.etcd.Close()
		l.etcd = nil
	}
}

// WipeEtcd removes the data of a stopped etcd: its next start knows nothing.
func (l *Lab) WipeEtcd() error {
	if l.etcd != nil {
		return errors.New("lab: wipe etcd: it is running")
	}
	return os.RemoveAll(filepath.Join(l.dir, "etcd"))
}

// etcdPort is etcd's registered client port.
const etcdPort = 2379

// EtcdEndpoint is etcd's URL, for hosts and for the lab itself. It is the same
// whether etcd runs or not.
func (l *Lab) EtcdEndpoint() string {
	return "http://" + netip.AddrPortFrom(l.Addr(), etcdPort).String()
}
