package tunnel

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// ICMP, RFC 792.
const (
	protocolICMP = 1

	icmpUnreachable    = 3
	icmpNetUnreachable = 0 // code
	icmpSourceQuench   = 4
	icmpRedirect       = 5
	icmpTimeExceeded   = 11
	icmpTTLExceeded    = 0 // code: in transit
	icmpParameter      = 12

	icmpHeaderLen = 8
)

// Fields of the ICMP errors that we send.
const (
	// maxICMPError is the length up to which an error quotes the packet it is about, RFC 1812 section 4.3.2.3.
	maxICMPError = 576
	// icmpTOS is precedence 6, internetwork control, RFC 1812 section 4.3.2.5; today's DSCP CS6.
	icmpTOS = 6 << 5
	// icmpTTL is the default TTL of RFC 1700.
	icmpTTL = 64
)

// Each queue sends at most icmpBurst errors at once and one more each icmpInterval (RFC 1812 section 4.3.2.8 asks for a
// limit and leaves the number open). A traceroute or a handful of failing connections never notices.
const (
	icmpInterval = 10 * time.Millisecond
	icmpBurst    = 50
)

// An icmpErrors makes the ICMP errors of one queue.
type icmpErrors struct {
	source [4]byte
	limit  rateLimit
	buf    [maxICMPError]byte
}

func newICMPErrors(source netip.Addr) *icmpErrors {
	return &icmpErrors{source: source.As4(), limit: rateLimit{interval: icmpInterval, burst: icmpBurst}}
}

// about returns the ICMP error of the given type and code about p, or nil if none may be sent. The packet is valid until the
// next call. The header of p has been checked.
func (e *icmpErrors) about(p *Packet, typ, code byte, now time.Time) []byte {
	if !mayAnswer(p.Head) || !e.limit.allow(now) {
		return nil
	}

	quote := copy(e.buf[minHeaderLen+icmpHeaderLen:], p.Head)
	quote += copy(e.buf[minHeaderLen+icmpHeaderLen+quote:], p.Tail)

	message := e.buf[minHeaderLen : minHeaderLen+icmpHeaderLen+quote]
	clear(message[:icmpHeaderLen])
	message[0], message[1] = typ, code
	binary.BigEndian.PutUint16(message[2:], checksum(message))

	packet := e.buf[:minHeaderLen+len(message)]
	clear(packet[:minHeaderLen])
	packet[0] = 4<<4 | minHeaderLen/4
	packet[offTOS] = icmpTOS
	binary.BigEndian.PutUint16(packet[offTotalLength:], uint16(len(packet)))
	// An ID of 0 with DF: RFC 6864, the ID of a packet that is never fragmented means nothing.
	binary.BigEndian.PutUint16(packet[offFragment:], flagDF)
	packet[offTTL] = icmpTTL
	packet[offProtocol] = protocolICMP
	copy(packet[offSource:], e.source[:])
	copy(packet[offDestination:], p.Head[offSource:offSource+4])
	binary.BigEndian.PutUint16(packet[offChecksum:], checksum(packet[:minHeaderLen]))
	return packet
}

// mayAnswer says whether an ICMP error about the packet that starts with head may be sent, RFC 1812 section 4.3.2.7.
func mayAnswer(head []byte) bool {
	if binary.BigEndian.Uint16(head[offFragment:])&fragmentOffsetMask != 0 {
		return false // a fragment other than the first
	}
	if dst := head[offDestination]; dst >= 224 {
		return false // multicast, reserved, broadcast
	}
	// A source that does not name one host: network 0, loopback, multicast, reserved, broadcast (section 5.3.7).
	if src := head[offSource]; src == 0 || src == 127 || src >= 224 {
		return false
	}
	if head[offProtocol] != protocolICMP {
		return true
	}
	message := head[headerLength(head):]
	return len(message) > 0 && !isICMPError(message[0])
}

func isICMPError(typ byte) bool {
	switch typ {
	case icmpUnreachable, icmpSourceQuench, icmpRedirect, icmpTimeExceeded, icmpParameter:
		return true
	}
	return false
}

// A rateLimit is a token bucket that holds at most burst tokens and gains one each interval.
type rateLimit struct {
	interval time.Duration
	burst    int
	spent    time.Time // all tokens gained up to then are spent
}

// allow takes a token, if there is one.
func (l *rateLimit) allow(now time.Time) bool {
	full := now.Add(-l.interval * time.Duration(l.burst))
	if l.spent.Before(full) {
		l.spent = full
	}
	next := l.spent.Add(l.interval)
	if next.After(now) {
		return false
	}
	l.spent = next
	return true
}
