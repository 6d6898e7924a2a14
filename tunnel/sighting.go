package tunnel

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"
)

// A Sighting is an underlay address that something came from, and when it last did, to the second. The zero Sighting: never.
type Sighting struct {
	From netip.Addr
	At   time.Time
}

// lastSighting holds the latest Sighting: the IPv4 address in the upper half, the Unix time in seconds in the lower. Whoever
// sends to this host decides what it holds; so it is a hint for people and no more.
type lastSighting struct{ packed atomic.Uint64 }

func (s *lastSighting) note(from netip.Addr, now time.Time) {
	addr := from.As4()
	s.packed.Store(uint64(binary.BigEndian.Uint32(addr[:]))<<32 | uint64(uint32(now.Unix())))
}

func (s *lastSighting) load() Sighting {
	packed := s.packed.Load()
	if packed == 0 {
		return Sighting{}
	}
	var addr [4]byte
	binary.BigEndian.PutUint32(addr[:], uint32(packed>>32))
	return Sighting{From: netip.AddrFrom4(addr), At: time.Unix(int64(uint32(packed)), 0)}
}
