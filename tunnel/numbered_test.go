package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	numberedPackets = 3000 // of a stream
	numberedSize    = 700  // bytes of payload each
	numberedBurst   = 15   // in one super-packet
	numberedAhead   = 300  // may be under way, so that no buffer on the way, as small as the system's default, overflows
)

// A numberedStream is what has arrived of numbered datagrams.
type numberedStream struct {
	client *net.UDPConn

	mu        sync.Mutex
	seen      [numberedPackets]bool
	again     int // duplicates
	highest   int
	overtaken int // arrived after one with a higher number
	ended     bool
	err       error // about the first that is none of those sent
}

// numberedPayload returns what datagram number n holds.
func numberedPayload(n int) []byte {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	payload := make([]byte, numberedSize)
	rand.NewChaCha8(seed).Read(payload)
	binary.BigEndian.PutUint64(payload, uint64(n))
	return payload
}

// sendNumbered sends numbered datagrams from the pod of one host to that of another. Their pod sends them as super-packets.
func sendNumbered(t *testing.T, from, to *overlayHost) *numberedStream {
	t.Helper()
	client, server := udpPair(t, from, to)
	raiseBuffer(t, server)
	raw, err := client.SyscallConn()
	if err == nil {
		err = control(raw, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, numberedSize)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &numberedStream{client: client, highest: -1}
	var reader sync.WaitGroup
	reader.Go(func() { s.receive(server) })
	t.Cleanup(func() {
		server.Close()
		reader.Wait()
		if s.err != nil {
			t.Error(s.err)
		}
	})
	for n := 0; n < numberedPackets; {
		var burst []byte
		for range numberedBurst {
			burst = append(burst, numberedPayload(n)...)
			n++
		}
		if _, err := client.Write(burst); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the stream to go on", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.highest >= n-numberedAhead
		})
	}
	return s
}

// receive reads until server is closed.
func (s *numberedStream) receive(server *net.UDPConn) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.arrived(buffer[:n])
		s.mu.Unlock()
	}
}

func (s *numberedStream) arrived(payload []byte) {
	if len(payload) == 0 {
		s.ended = true
		return
	}
	number := numberedPackets
	if len(payload) == numberedSize {
		number = int(binary.BigEndian.Uint64(payload))
	}
	switch {
	case number < 0 || number >= numberedPackets || !bytes.Equal(payload, numberedPayload(number)):
		if s.err == nil {
			s.err = fmt.Errorf("received %d bytes %.20x…, which are none of those sent", len(payload), payload)
		}
		return
	case s.seen[number]:
		s.again++
		return
	case number < s.highest:
		s.overtaken++
	}
	s.seen[number] = true
	s.highest = max(s.highest, number)
}

// counts returns how many different datagrams have arrived, and how many once more.
func (s *numberedStream) counts() (different, again int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seen := range s.seen {
		if seen {
			different++
		}
	}
	return different, s.again
}

func (s *numberedStream) different() int {
	different, _ := s.counts()
	return different
}

// awaitEnd sends empty datagrams until one arrives; on an underlay that keeps the order all others have.
func (s *numberedStream) awaitEnd(t *testing.T) {
	t.Helper()
	waitFor(t, "the end of the stream", func() bool {
		if _, err := s.client.Write(nil); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ended
	})
}

// raiseBuffer lets a socket hold what a slow reader leaves.
func raiseBuffer(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		err = control(raw, func(fd int) error { return setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF) })
	}
	if err != nil {
		t.Fatal(err)
	}
}
