package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// pingSize is ping(8)'s default payload, in bytes.
	pingSize = 56

	// pingTimeout is how long an answer is awaited: far above any round trip
	// here, even on a machine that is busy with something else.
	pingTimeout = 3 * time.Second

	// maxICMP bounds a received ICMP message: the longest IPv4 packet.
	maxICMP = 65535

	// pingAtOnce bounds the pings that PingAll has under way.
	pingAtOnce = 8
)

// PingOptions changes an echo request. The zero value is ping(8)'s default.
type PingOptions struct {
	Size         int  // ICMP payload in bytes; 0 means 56
	DontFragment bool // set DF, and refuse what exceeds the known path MTU
	TTL          int  // 0 means the system's
}

// ICMPError is an ICMP error that came back for an echo request.
type ICMPError struct {
	From netip.Addr
	Type ipv4.ICMPType
	Code int
	MTU  int // next hop's, for "fragmentation needed" (RFC 1191)
}

func (e *ICMPError) Error() string {
	if e.MTU != 0 {
		return fmt.Sprintf("%s says: %s, code %d, next-hop MTU %d", e.From, e.Type, e.Code, e.MTU)
	}
	return fmt.Sprintf("%s says: %s, code %d", e.From, e.Type, e.Code)
}

// pings gives every echo request of the process its identifier and sequence.
var pings atomic.Uint32

// Ping sends one ICMP echo request from a namespace and returns the round trip
// time. The error is an [ICMPError] if one was received.
func Ping(ctx context.Context, from *Namespace, to netip.Addr, o PingOptions) (time.Duration, error) {
	rtt, err := ping(ctx, from, to, o)
	if err != nil {
		return 0, fmt.Errorf("ping %s from %s: %w", to, from.Name, err)
	}
	return rtt, nil
}

func ping(ctx context.Context, from *Namespace, to netip.Addr, o PingOptions) (time.Duration, error) {
	conn, err := listenICMP(from, o)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(pingTimeout))
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()

	request, key := echoRequest(o.Size)
	sent := time.Now()
	if _, err := conn.WriteTo(request, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return 0, err
	}
	return awaitEcho(ctx, conn, request, key, sent)
}

// listenICMP opens a raw ICMP socket in a namespace.
func listenICMP(from *Namespace, o PingOptions) (conn *net.IPConn, err error) {
	err = from.Do(func() error {
		conn, err = net.ListenIP("ip4:icmp", nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	if o.TTL != 0 {
		err = ipv4.NewConn(conn).SetTTL(o.TTL)
	}
	if err == nil && o.DontFragment {
		err = setDontFragment(conn)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func setDontFragment(conn *net.IPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	})
	if err != nil {
		return err
	}
	return optErr
}

// echoRequest makes a request with a payload of size bytes, and the 4 bytes of
// identifier and sequence by which its answer is known (RFC 792).
func echoRequest(size int) (packet []byte, key uint32) {
	if size == 0 {
		size = pingSize
	}
	key = pings.Add(1)
	payload := make([]byte, size)
	fill(payload, uint64(key))
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{
		ID: int(key >> 16), Seq: int(key & 0xffff), Data: payload,
	}}
	packet, err := m.Marshal(nil)
	if err != nil {
		panic(err) // impossible: the message is complete
	}
	return packet, key
}

// awaitEcho reads until the answer to request comes. A raw socket receives every
// ICMP message of its namespace, those of other pings too.
func awaitEcho(ctx context.Context, conn *net.IPConn, request []byte, key uint32, sent time.Time) (time.Duration, error) {
	buf := make([]byte, maxICMP)
	for {
		n, src, err := conn.ReadFromIP(buf)
		rtt := time.Since(sent)
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case err != nil:
			return 0, fmt.Errorf("no answer: %w", err)
		case n < 8:
			continue
		}
		msg := buf[:n]
		if ipv4.ICMPType(msg[0]) == ipv4.ICMPTypeEchoReply {
			if binary.BigEndian.Uint32(msg[4:]) == key {
				return rtt, sameEcho(request, msg)
			}
			continue
		}
		from, _ := netip.AddrFromSlice(src.IP.To4())
		if e := errorAbout(msg, key, from); e != nil {
			return 0, e
		}
	}
}

// sameEcho checks that the payload came back whole.
func sameEcho(request, reply []byte) error {
	if string(request[8:]) != string(reply[8:]) {
		return fmt.Errorf("the reply differs from the request (%d and %d bytes)", len(reply), len(request))
	}
	return nil
}

// errorAbout reads an ICMP error if it is about the echo request with that key.
// It quotes the IPv4 header and 8 bytes more of it (RFC 792).
func errorAbout(msg []byte, key uint32, from netip.Addr) error {
	kind := ipv4.ICMPType(msg[0])
	if kind != ipv4.ICMPTypeDestinationUnreachable && kind != ipv4.ICMPTypeTimeExceeded {
		return nil
	}
	quoted := msg[8:]
	if len(quoted) < ipv4.HeaderLen {
		return nil
	}
	headerLen := int(quoted[0]&0xf) * 4
	if len(quoted) < headerLen+8 || quoted[9] != unix.IPPROTO_ICMP {
		return nil
	}
	if binary.BigEndian.Uint32(quoted[headerLen+4:]) != key {
		return nil
	}
	e := &ICMPError{From: from, Type: kind, Code: int(msg[1])}
	if kind == ipv4.ICMPTypeDestinationUnreachable && e.Code == 4 {
		e.MTU = int(binary.BigEndian.Uint16(msg[6:]))
	}
	return e
}

// PingAll pings every namespace from every other. rtt[i][j] is from i to j, 0 on
// the diagonal. The error is the first one; the others go on to their end.
func PingAll(ctx context.Context, all []*Namespace, o PingOptions) (rtt [][]time.Duration, err error) {
	rtt = make([][]time.Duration, len(all))
	var g errgroup.Group
	g.SetLimit(pingAtOnce)
	for i, from := range all {
		rtt[i] = make([]time.Duration, len(all))
		for j, to := range all {
			if i == j {
				continue
			}
			g.Go(func() (err error) {
				rtt[i][j], err = Ping(ctx, from, to.Addr(), o)
				return err
			})
		}
	}
	return rtt, g.Wait()
}
