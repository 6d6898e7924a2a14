package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"twill/internal/forge"
	"twill/internal/lab/card"
)

// Whatever the offloads do, what is on the wire is for a peer that knows nothing of them: each datagram holds one complete inner
// packet and nothing else.
func TestDatagramsOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		link     string
		offloads Offloads
		super    bool // the link takes super-packets
	}{
		{"veth", AllOffloads, true},
		{"veth", Offloads{}, false},
		{"card", AllOffloads, false},
		{"card", Offloads{TSO: true, USO: true}, false},
	} {
		t.Run(fmt.Sprintf("%s, %v", tt.link, tt.offloads), func(t *testing.T) {
			a, b := newMixedOverlay(t, 1, tt.offloads, Offloads{})
			var wire *forge.Wire
			a.do(t, func() (err error) {
				if tt.link == "card" {
					if err := card.Imitate("underlay"); err != nil {
						return err
					}
				}
				wire, err = forge.OpenRecorder("underlay")
				return err
			})
			defer wire.Close()

			s := sendNumbered(t, a, b)
			s.awaitEnd(t)
			checkUDP(t, a, b)
			checkTCP(t, a, b)
			checkWire(t, wire, a, b, tt.super)
		})
	}
}

// checkWire looks at what went from a to b: the numbered datagrams in their order, and what checkUDP and checkTCP send.
func checkWire(t *testing.T, wire *forge.Wire, a, b *overlayHost, wantSuper bool) {
	frames, err := wire.Record()
	if err != nil {
		t.Fatal(err)
	}
	next, longest := 0, 0 // number that is due; packets in one frame
	for _, frame := range frames {
		if !frame.Outgoing {
			continue
		}
		longest = max(longest, len(frame.Packets))
		for _, outer := range frame.Packets {
			inner, err := openOuter(outer, a, b)
			if err == nil {
				err = checkComplete(inner, a, b)
			}
			if err != nil {
				t.Fatalf("outer packet %.64x…: %v", outer, err)
			}
			if next < numberedPackets && bytes.Equal(inner[minHeaderLen+min(udpHeaderLen, len(inner)-minHeaderLen):], numberedPayload(next)) {
				next++
			}
		}
	}
	if next != numberedPackets {
		t.Errorf("%d numbered datagrams were on the wire, want %d in their order", next, numberedPackets)
	}
	if super := longest > 1; super != wantSuper {
		t.Errorf("the largest frame has %d packets, want several: %t", longest, wantSuper)
	}
}

// openOuter returns the payload of an outer packet.
func openOuter(outer []byte, a, b *overlayHost) ([]byte, error) {
	if length, reason := checkHeader(outer, len(outer)); reason != kept || length != len(outer) || headerLength(outer) != minHeaderLen {
		return nil, fmt.Errorf("not an IPv4 packet of %d bytes without options: %v", len(outer), reason)
	}
	if source(outer) != a.endpoint.Addr() || destination(outer) != b.endpoint.Addr() || outer[offProtocol] != protocolUDP {
		return nil, fmt.Errorf("from %s to %s, protocol %d: want UDP from %s to %s", source(outer), destination(outer), outer[offProtocol],
			a.endpoint.Addr(), b.endpoint.Addr())
	}
	if fragment := binary.BigEndian.Uint16(outer[offFragment:]); fragment != flagDF {
		return nil, fmt.Errorf("fragment field %#04x, want DF alone", fragment)
	}
	udp := outer[minHeaderLen:]
	if port := binary.BigEndian.Uint16(udp[2:]); port != b.endpoint.Port() {
		return nil, fmt.Errorf("to port %d, want %d", port, b.endpoint.Port())
	}
	if length := int(binary.BigEndian.Uint16(udp[offUDPLength:])); length != len(udp) {
		return nil, fmt.Errorf("UDP length %d, want %d", length, len(udp))
	}
	if slowTransportChecksum(outer, len(udp), udp) != 0 {
		return nil, fmt.Errorf("wrong UDP checksum")
	}
	return udp[udpHeaderLen:], nil
}

// checkComplete returns an error unless inner is one packet from a's pod to b's that needs nothing done to it.
func checkComplete(inner []byte, a, b *overlayHost) error {
	length, reason := checkHeader(inner, len(inner))
	if reason != kept || length != len(inner) {
		return fmt.Errorf("inner packet of %d bytes in %d: %v", length, len(inner), reason)
	}
	if length > overlayMTU {
		return fmt.Errorf("inner packet of %d bytes: want at most %d", length, overlayMTU)
	}
	if source(inner) != a.podAddr || destination(inner) != b.podAddr {
		return fmt.Errorf("inner packet from %s to %s", source(inner), destination(inner))
	}
	if binary.BigEndian.Uint16(inner[offFragment:])&^flagDF != 0 {
		return nil // no part of a datagram has a checksum of its own
	}
	transport := inner[headerLength(inner):]
	if slowTransportChecksum(inner, len(transport), transport) != 0 {
		return fmt.Errorf("wrong inner transport checksum")
	}
	return nil
}
