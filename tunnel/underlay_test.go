package tunnel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twill/internal/lab/card"
)

// On an underlay that loses packets, so that TCP sends them again, late and in smaller pieces, nothing else is lost or changed.
func TestOverlayOnLossyUnderlay(t *testing.T) {
	for _, link := range []string{"veth", "card"} {
		t.Run(link, func(t *testing.T) {
			a, b := newOverlay(t, 1)
			for _, h := range []*overlayHost{a, b} {
				if link == "card" {
					h.do(t, func() error { return card.Imitate("underlay") })
				}
				h.loseInput(t)
			}
			checkTCP(t, a, b)
			checkTCP(t, b, a)
			s := sendNumbered(t, a, b)
			s.awaitEnd(t)
			if got := s.different(); got == numberedPackets || got < numberedPackets/2 {
				t.Errorf("%d of %d datagrams arrived, want most of them", got, numberedPackets)
			}
			if s.again != 0 {
				t.Errorf("%d datagrams arrived again", s.again)
			}
			checkNoInboundDrops(t, a, b)
		})
	}
}

// loseInput makes the host lose one in 30 of the outer packets, or groups of them, that reach it.
func (h *overlayHost) loseInput(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("nft")
	if err != nil {
		t.Fatalf("%v: install nftables", err)
	}
	h.do(t, func() error {
		out, err := exec.Command(path, `
			add table ip loss
			add chain ip loss input { type filter hook input priority 0; }
			add rule ip loss input udp dport 8285 numgen inc mod 30 == 0 drop`).CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	})
}

// What an underlay duplicates and reorders arrives as the underlay made it: TCP whole, of UDP each datagram and each duplicate.
func TestOverlayOnDisorderlyUnderlay(t *testing.T) {
	for _, link := range []string{"veth", "card"} {
		t.Run(link, func(t *testing.T) {
			a, b := newOverlayHosts(t)
			r := newRelay(t, a, b)
			if link == "card" {
				for _, h := range []*overlayHost{a, b} {
					h.do(t, func() error { return card.Imitate("underlay") })
				}
			}
			runOverlay(t, 1, a, b)
			checkTCP(t, a, b)
			checkTCP(t, b, a)
			for _, way := range [][2]*overlayHost{{a, b}, {b, a}} {
				before := r.duplicated.Load()
				s := sendNumbered(t, way[0], way[1])
				waitFor(t, "each datagram and each duplicate", func() bool {
					different, again := s.counts()
					return different == numberedPackets && again == int(r.duplicated.Load()-before)
				})
				if again, overtaken := s.again, s.overtaken; again == 0 || overtaken == 0 {
					t.Errorf("%d datagrams arrived again and %d were overtaken, want some", again, overtaken)
				}
			}
			checkNoInboundDrops(t, a, b)
		})
	}
}

func checkNoInboundDrops(t *testing.T, hosts ...*overlayHost) {
	t.Helper()
	for _, h := range hosts {
		if rx := h.tunnel.Stats().Rx; rx.Dropped() != 0 {
			t.Errorf("the tunnel of %s dropped %v of what came in, want none", h.endpoint, rx.Drops)
		}
	}
}

// A relay is an underlay between two hosts that loses nothing, but duplicates and reorders datagrams. To each host it shows an end
// with the address of the other.
type relay struct {
	duplicated atomic.Int64 // of the datagrams that carry UDP
}

func newRelay(t *testing.T, a, b *overlayHost) *relay {
	t.Helper()
	r := &relay{}
	nearA, nearB := r.end(t, a, b.endpoint), r.end(t, b, a.endpoint)
	var carriers sync.WaitGroup
	for i, way := range []struct {
		from, to *net.UDPConn
		host     netip.AddrPort
	}{{nearA, nearB, b.endpoint}, {nearB, nearA, a.endpoint}} {
		random := rand.New(rand.NewPCG(7, uint64(i)))
		carriers.Go(func() {
			if err := r.carry(way.from, way.to, way.host, random); !errors.Is(err, net.ErrClosed) {
				t.Errorf("relay to %s: %v", way.host, err)
			}
		})
	}
	t.Cleanup(func() {
		nearA.Close()
		nearB.Close()
		carriers.Wait()
	})
	return r
}

// end returns a socket with the address of the other host, in a namespace that is connected to h.
func (r *relay) end(t *testing.T, h *overlayHost, other netip.AddrPort) (conn *net.UDPConn) {
	t.Helper()
	n := newNamespace(t)
	connect(t, h.namespace, "underlay", n, "host")
	n.addAddr(t, "host", netip.PrefixFrom(other.Addr(), 24))
	n.do(t, func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(other))
		return err
	})
	raiseBuffer(t, conn)
	return conn
}

// carry sends one in 20 datagrams twice, and holds back one in 20, and sometimes the next ones, until others have overtaken them.
func (r *relay) carry(from, to *net.UDPConn, host netip.AddrPort, random *rand.Rand) error {
	var late [][]byte
	send := func(datagram []byte) error {
		_, err := to.WriteToUDPAddrPort(datagram, host)
		return err
	}
	sendLate := func() error {
		for _, datagram := range slices.Backward(late) {
			if err := send(datagram); err != nil {
				return err
			}
		}
		late = late[:0]
		return nil
	}
	const patience = 5 * time.Millisecond // without others to overtake those held back
	buffer := make([]byte, 1<<16)
	for {
		from.SetReadDeadline(time.Now().Add(patience))
		n, err := from.Read(buffer)
		switch fate := random.IntN(20); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = sendLate()
		case err != nil:
		case fate == 0:
			late = append(late, slices.Clone(buffer[:n]))
		case fate == 1:
			err = errors.Join(send(buffer[:n]), send(buffer[:n]))
			if head := buffer[:n]; head[offProtocol] == protocolUDP { // not what the end of a TCP connection is still about
				r.duplicated.Add(1)
			}
		default:
			if err = send(buffer[:n]); err == nil && fate < 8 {
				err = sendLate()
			}
		}
		if err != nil {
			return err
		}
	}
}
