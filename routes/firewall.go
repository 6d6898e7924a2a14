package routes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"time"

	"github.com/coreos/go-iptables/iptables"
)

// Chain names are these prefixes and the device's name, so that two daemons
// on one host keep apart. iptables allows 28 bytes: 11 and a device name's 15
// fit.
const (
	masqueradePrefix = "TWILL-MASQ-"
	forwardPrefix    = "TWILL-FWD-"
)

// lockTimeout bounds the wait for another iptables to release the lock, in
// seconds: the value that kube-proxy uses too.
const lockTimeout = 5

// ErrNoIptables is wrapped by errors of NewFirewall and RemoveFirewall when
// no iptables program is in PATH.
var ErrNoIptables = errors.New("no iptables program in PATH: install the iptables package")

// FirewallConfig says which rules a Firewall keeps.
type FirewallConfig struct {
	Device     string       // the TUN device; gives the chains their names
	Network    netip.Prefix // the overlay, IPv4
	Subnet     netip.Prefix // this host's part of it
	Port       uint16       // the UDP port of the overlay's tunnels
	Masquerade bool         // pods leave the overlay with the host's address
	Forward    bool         // overlay traffic passes FORWARD whatever its policy, and pods cannot reach tunnels
	Log        *slog.Logger // must not be nil
}

// Firewall keeps a daemon's iptables rules: a chain in nat POSTROUTING and a
// chain in filter FORWARD, each with one jump to it. Its methods must not run
// at the same time.
type Firewall struct {
	ipt    *iptables.IPTables
	chains []chain
	log    *slog.Logger
}

// NewFirewall checks cfg and finds the iptables program. It changes nothing.
func NewFirewall(cfg FirewallConfig) (*Firewall, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	ipt, err := openIptables()
	if err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	chains := cfg.chains(ipt.HasRandomFully())
	return &Firewall{ipt: ipt, chains: chains, log: cfg.Log.With("device", cfg.Device)}, nil
}

func (cfg FirewallConfig) check() error {
	if err := CheckDeviceName(cfg.Device); err != nil {
		return err
	}
	if !cfg.Network.Addr().Is4() || cfg.Network.Bits() < 1 {
		return fmt.Errorf("network %s: want an IPv4 prefix of at least /1", cfg.Network)
	}
	if cfg.Port == 0 {
		return errors.New("port 0: want 1 to 65535")
	}
	if !within(cfg.Subnet, []netip.Prefix{cfg.Network}) {
		return fmt.Errorf("subnet %s: want a part of network %s", cfg.Subnet, cfg.Network)
	}
	return nil
}

// chains translates the configuration; a chain that is switched off is there
// without rules, so that one of an earlier run gets removed.
func (cfg FirewallConfig) chains(randomFully bool) []chain {
	masquerade := chain{table: "nat", builtin: "POSTROUTING", name: masqueradePrefix + cfg.Device, place: postroutingSpan}
	if cfg.Masquerade {
		masquerade.rules = masqueradeRules(cfg.Network.Masked(), cfg.Subnet.Masked(), randomFully)
	}
	forward := chain{table: "filter", builtin: "FORWARD", name: forwardPrefix + cfg.Device, place: forwardSpan}
	if cfg.Forward {
		forward.rules = forwardRules(cfg.Network.Masked(), cfg.Port)
	}
	return []chain{masquerade, forward}
}

func openIptables() (*iptables.IPTables, error) {
	ipt, err := iptables.New(iptables.Timeout(lockTimeout))
	if errors.Is(err, exec.ErrNotFound) {
		return nil, ErrNoIptables
	}
	return ipt, err
}

// Apply makes chains and jumps what the configuration says. It writes only
// what differs; rules of others stay.
func (f *Firewall) Apply() error {
	_, err := f.converge()
	return err
}

// converge applies every chain even if one fails, and returns the first
// error.
func (f *Firewall) converge() (wrote bool, err error) {
	for _, c := range f.chains {
		w, e := c.converge(f.ipt)
		wrote = wrote || w
		err = cmp.Or(err, e)
	}
	if err != nil {
		return wrote, fmt.Errorf("firewall: %w", err)
	}
	return wrote, nil
}

// condition is what one round of Run found.
type condition int

const (
	intact   condition = iota // nothing to do
	repaired                  // rules had been changed and are right again
	failing                   // rules are not as they should be
)

// Run applies the rules again after each interval, until ctx ends; then it
// returns nil, after at most one round. It logs when the condition changes,
// not every time.
func (f *Firewall) Run(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		return fmt.Errorf("firewall: interval %s: want more than 0", interval)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()

	last := intact
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := intact
		wrote, err := f.converge()
		switch {
		case err != nil:
			now = failing
		case wrote:
			now = repaired
		}
		f.report(last, now, err)
		last = now
	}
}

func (f *Firewall) report(last, now condition, err error) {
	switch {
	case now == last:
	case now == failing:
		f.log.Error("cannot keep the firewall rules; until that is put right pods may not reach other hosts, trying on", "err", err)
	case last == failing:
		f.log.Info("firewall rules are right again")
	case now == repaired:
		f.log.Info("another program changed the firewall rules; ours are in place again") // as Docker does when it starts
	}
}

// Remove deletes our chains and the jumps to them. Absent is fine.
func (f *Firewall) Remove() error {
	var first error
	for _, c := range f.chains {
		_, err := c.remove(f.ipt)
		first = cmp.Or(first, err)
	}
	if first != nil {
		return fmt.Errorf("firewall: remove: %w", first)
	}
	return nil
}

// RemoveFirewall deletes the chains that any Firewall made for device,
// whatever its configuration was. Absent is fine.
func RemoveFirewall(device string) error {
	if err := CheckDeviceName(device); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	ipt, err := openIptables()
	if err != nil {
		return fmt.Errorf("firewall: remove: %w", err)
	}
	f := Firewall{ipt: ipt, chains: FirewallConfig{Device: device}.chains(false)}
	return f.Remove()
}
