package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// MaxDatagram is the longest UDP payload over IPv4, in bytes.
const MaxDatagram = 65535 - 20 - 8

// echoTimeout is how long one datagram's echo is awaited.
const echoTimeout = 3 * time.Second

// Echo sends one UDP datagram of each size from one namespace to another, which
// sends it back, and compares the bytes. A datagram lost once is an error.
func Echo(ctx context.Context, from, to *Namespace, sizes ...int) error {
	server, err := listenUDP(to)
	if err != nil {
		return fmt.Errorf("echo from %s: %w", to.Name, err)
	}
	defer server.Close()
	go sendBack(server)

	client, err := dialUDP(from, server)
	if err != nil {
		return fmt.Errorf("echo to %s: %w", to.Name, err)
	}
	defer client.Close()
	for _, size := range sizes {
		if err := echoOne(ctx, client, size); err != nil {
			return fmt.Errorf("echo of a %d-byte datagram from %s to %s: %w", size, from.Name, to.Name, err)
		}
	}
	return nil
}

// listenUDP opens a socket on a namespace's address.
func listenUDP(n *Namespace) (conn *net.UDPConn, err error) {
	err = n.Do(func() error {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(n.Addr(), 0)))
		return err
	})
	return conn, err
}

// dialUDP opens a socket in a namespace that is connected to another socket.
func dialUDP(from *Namespace, to *net.UDPConn) (conn *net.UDPConn, err error) {
	err = from.Do(func() error {
		conn, err = net.DialUDP("udp4", nil, to.LocalAddr().(*net.UDPAddr))
		return err
	})
	return conn, err
}

// sendBack answers every datagram with itself until the socket is closed.
func sendBack(server *net.UDPConn) {
	buf := make([]byte, MaxDatagram)
	for {
		n, src, err := server.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		server.WriteToUDPAddrPort(buf[:n], src)
	}
}

func echoOne(ctx context.Context, client *net.UDPConn, size int) error {
	want := make([]byte, size)
	fill(want, uint64(size))
	client.SetReadDeadline(time.Now().Add(echoTimeout))
	defer context.AfterFunc(ctx, func() { client.SetReadDeadline(time.Unix(1, 0)) })()

	if _, err := client.Write(want); err != nil {
		return err
	}
	got := make([]byte, MaxDatagram)
	n, err := client.Read(got)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case !bytes.Equal(got[:n], want):
		return fmt.Errorf("%d bytes came back, and they differ", n)
	}
	return nil
}
