package main

import (
	"net"
	"strings"
	"time"

	"twill/internal/lab"
)

func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// keepInUse has the pods send a datagram to each other now and then until the end of the test, as they do where anybody notices a fault:
// a peer in use is probed each interval.
func (c *cluster) keepInUse() {
	c.t.Helper()
	done := make(chan struct{})
	ended := make(chan struct{}, len(c.Hosts)*len(c.Hosts))
	n := 0
	for _, from := range c.pods() {
		for _, to := range c.pods() {
			if from.Name == to.Name {
				continue
			}
			conn := c.dial(from, to)
			n++
			go func() {
				defer func() { ended <- struct{}{} }()
				defer conn.Close()
				tick := time.NewTicker(200 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-done:
						return
					case <-tick.C:
						conn.Write([]byte("x"))
					}
				}
			}()
		}
	}
	c.t.Cleanup(func() {
		close(done)
		for range n {
			<-ended
		}
	})
}

// dial connects a UDP socket of one pod to the discard port of another.
func (c *cluster) dial(from, to *lab.Namespace) (conn net.Conn) {
	c.t.Helper()
	c.must(from.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: to.Addr().AsSlice(), Port: 9})
		return err
	}))
	return conn
}
