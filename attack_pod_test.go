//go:build attack

package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"twill/internal/forge"
)

// podLedger follows packets from the daemon's device to a pod. The host's kernel
// is between them, and routes as RFC 1812 says: what a router must pass on must
// arrive, what it may judge otherwise (options, sources of our own) may.
type podLedger struct {
	rules forge.Rules
	pod   netip.Addr
	mtu   int

	must    forge.Ledger
	may     map[string]bool
	unknown [][]byte
}

// due notes a packet that the daemon lets in.
func (l *podLedger) due(packet []byte) {
	if l.may == nil {
		l.may = make(map[string]bool)
	}
	key := l.routed(packet)
	l.may[string(key)] = true
	if l.mustArrive(packet) {
		l.must.Due(key)
	}
}

func (l *podLedger) mustArrive(packet []byte) bool {
	src, dst := netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
	fromPeer := false
	for _, lease := range l.rules.Leases {
		fromPeer = fromPeer || lease.Subnet.Contains(src)
	}
	return dst == l.pod && fromPeer && packet[0] == 0x45 && packet[8] > 1 && len(packet) <= l.mtu && headerIntact(packet)
}

// routed is a packet without what a router changes: TTL, checksum, options.
func (l *podLedger) routed(packet []byte) []byte {
	p := append([]byte(nil), packet...)
	p[8] = 0
	clear(p[10:12])
	clear(p[20:max(20, int(p[0]&0xf)*4)])
	return p
}

// look takes in what the pod has got. The error says what it has not yet.
func (l *podLedger) look(pod *forge.Wire) error {
	frames, err := pod.Record()
	if err != nil {
		return err
	}
	for _, f := range frames {
		for _, p := range f.Packets {
			if !f.Outgoing {
				l.saw(p)
			}
		}
	}
	return l.must.Balance()
}

func (l *podLedger) saw(packet []byte) {
	fixed := l.routed(packet)
	switch {
	case !l.may[string(fixed)]:
		l.unknown = append(l.unknown, packet)
	case l.mustArrive(l.unhop(packet)):
		l.must.Saw(fixed)
	}
}

// unhop is the packet one hop earlier.
func (l *podLedger) unhop(packet []byte) []byte {
	p := append([]byte(nil), packet...)
	p[8]++
	clear(p[10:12])
	binary.BigEndian.PutUint16(p[10:], ^headerSum(p))
	return p
}

// nothingElse is an error if the pod got something that the daemon did not let
// in and the host did not say itself.
func (l *podLedger) nothingElse() error {
	for _, p := range l.unknown {
		src := netip.AddrFrom4([4]byte(p[12:]))
		if own := l.rules.Own; src != own.Addr() && src != own.Addr().Next() {
			return fmt.Errorf("the pod got %d packets that nobody let in, one is %x", len(l.unknown), p)
		}
	}
	return nil
}

func headerIntact(packet []byte) bool { return headerSum(packet) == 0xffff }

// headerSum is the one's complement sum over a header, RFC 1071.
func headerSum(packet []byte) uint16 {
	var s uint32
	for i := 0; i < int(packet[0]&0xf)*4; i += 2 {
		s += uint32(binary.BigEndian.Uint16(packet[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
