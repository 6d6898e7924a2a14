//go:build attack

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"twill/internal/api"
	"twill/internal/forge"
	"twill/internal/lab"
)

// The TestWorld tests change the world around real daemons and look at what the
// pods then see. Each has hosts of its own.

// mustStatus is what the daemon on h says of itself; it must run.
func (c *cluster) mustStatus(h *lab.Host) api.Status {
	c.t.Helper()
	s, err := c.status(h)
	c.must(err)
	return s
}

// pingSoon waits until a ping comes back.
func (c *cluster) pingSoon(from *lab.Namespace, to netip.Addr) {
	c.t.Helper()
	c.waitFor(fmt.Sprintf("a ping from %s to %s", from.Name, to), func() error {
		_, err := lab.Ping(c.ctx, from, to, lab.PingOptions{})
		return err
	})
}

// silence is how long an answer that must not come is awaited: a hundred times
// what one takes here.
const silence = 300 * time.Millisecond

// silent is an error message if a ping comes back.
func (c *cluster) silent(why string, from *lab.Namespace, to netip.Addr) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, silence)
	defer cancel()
	if _, err := lab.Ping(ctx, from, to, lab.PingOptions{}); err == nil {
		c.t.Errorf("%s, and yet %s answers %s", why, to, from.Name)
	}
}

// linkOf finds a link of a host.
func (c *cluster) linkOf(n *lab.Namespace, name string) netlink.Link {
	c.t.Helper()
	l, err := n.Link().LinkByName(name)
	c.must(err)
	return l
}

// outerSources are the underlay addresses from which tunnel packets come to a
// host while f runs, with their number.
func (c *cluster) outerSources(h *lab.Host, link string, f func()) map[netip.Addr]int {
	c.t.Helper()
	var w *forge.Wire
	c.must(h.Do(func() (err error) { w, err = forge.OpenRecorder(link); return err }))
	defer w.Close()
	f()
	frames, err := w.Record()
	c.must(err)
	sources := map[netip.Addr]int{}
	for _, frame := range frames {
		for _, p := range frame.Packets {
			if dst := uint16(p[22])<<8 | uint16(p[23]); !frame.Outgoing && p[9] == 17 && dst == 8285 {
				sources[netip.AddrFrom4([4]byte(p[12:]))]++
			}
		}
	}
	return sources
}

// ipNetOf is a prefix as netlink takes it.
func ipNetOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
