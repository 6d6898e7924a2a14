//go:build attack

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"twill/internal/api"
	"twill/internal/forge"
)

// fromInside sends packets to the overlay: some from the pod, by way of the
// host's kernel, and some straight into the device, which no kernel has looked at.
// What reaches the daemon is recorded there; its fate is reckoned from that.
func (a *assault) fromInside(total int) {
	a.t.Helper()
	a.generator.Addresses = a.addresses(false)
	device := a.recorder()
	var intoDevice *forge.Wire
	a.must(a.target.Do(func() (err error) { intoDevice, err = forge.OpenSender(defaultTunName); return err }))
	defer intoDevice.Close()
	toGateway := forge.Ethernet{From: a.podCard.Address(), To: a.cardOf(a.target.Namespace, "docker0")}
	a.drainPeers(nil)
	tx := newAccount(a, func(s *api.Status) api.Counters { return s.Tx })
	peers := newPeerDrops(a)
	answers := newAnswers(a)
	_, err := a.inPod.Record() // what came before
	a.must(err)
	ledgers := map[netip.AddrPort]*forge.Ledger{}
	for endpoint := range a.peers {
		ledgers[endpoint] = new(forge.Ledger)
	}
	for sent := 0; sent < total; sent += insideBatch {
		answers.begin()
		for range insideBatch {
			_, p := a.generator.Packet()
			if len(p) == 0 {
				continue // a packet socket cannot send nothing
			}
			if a.generator.IntN(2) == 0 {
				a.must(intoDevice.Send(p))
			} else {
				a.must(a.podCard.Send(toGateway.Frame(p)))
			}
		}
		a.waitFor("what goes out", func() error {
			// The daemon's answers may themselves go out again: look at all each time.
			return errors.Join(a.reckon(device, tx, peers, answers, ledgers), tx.check(), peers.check(), a.drainPeers(ledgers))
		})
		a.must(a.reckon(device, tx, peers, answers, ledgers)) // what was answered just before it was counted
		a.must(answers.settle())
		a.waitFor("the pod's ICMP errors", func() error { return answers.look(a.inPod) })
	}
	a.must(answers.enough(total))
	a.t.Logf("from inside: %d packets, %s; %s", total, tx, answers)
}

// reckon takes in what has reached the daemon, and what it has answered.
func (a *assault) reckon(device *forge.Wire, tx *account, peers *peerDrops, answers *answers, ledgers map[netip.AddrPort]*forge.Ledger) error {
	frames, err := device.Record()
	if err != nil {
		return err
	}
	for _, f := range frames {
		for _, p := range f.Packets {
			if !f.Outgoing {
				answers.saw(p)
				continue
			}
			fate := a.rules.Outbound(p)
			tx.expect(fate)
			peers.expect(fate)
			answers.expect(fate)
			if fate.Drop == "" {
				ledgers[fate.To].Due(fate.Packet)
			}
		}
	}
	return nil
}

// drainPeers takes in what has come to the peers' sockets. Without ledgers it
// throws it away.
func (a *assault) drainPeers(ledgers map[netip.AddrPort]*forge.Ledger) error {
	buf := make([]byte, 65535)
	for endpoint, socket := range a.peers {
		for {
			socket.SetReadDeadline(time.Now().Add(time.Millisecond))
			n, from, err := socket.ReadFromUDPAddrPort(buf)
			if e, ok := err.(net.Error); ok && e.Timeout() {
				break
			}
			if err != nil {
				return err
			}
			if n > 0 && buf[0]>>4 == 0 {
				if n > 1500 {
					return fmt.Errorf("a control datagram of %d bytes", n)
				}
				continue // a probe, or the reply to a forged one
			}
			// A pod may send to a peer's host past the tunnel, as to anybody.
			if ledgers != nil && from.Addr() == a.target.Addr() {
				ledgers[endpoint].Saw(buf[:n])
			}
		}
	}
	for endpoint, l := range ledgers {
		if err := l.Balance(); err != nil {
			return fmt.Errorf("%s: %w", endpoint, err)
		}
	}
	return nil
}
