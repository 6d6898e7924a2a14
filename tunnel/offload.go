package tunnel

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// Offloads says which of the kernel's offloads may be used. Each lets one system call, and one walk through the kernel's network
// stack, carry many packets of a flow.
type Offloads struct {
	// TSO: the TUN device hands over and takes TCP super-packets, of up to 64 KB.
	TSO bool
	// USO: the TUN device hands over and takes UDP super-packets. Linux 6.2.
	USO bool
	// UDPSegment: one send carries many datagrams to a peer. Linux 4.18.
	UDPSegment bool
	// UDPGRO: one receive returns many datagrams of a peer. Linux 5.12.
	UDPGRO bool
}

// AllOffloads is what ParseOffloads("auto") returns.
var AllOffloads = Offloads{TSO: true, USO: true, UDPSegment: true, UDPGRO: true}

// The names of the offloads, in flags and in a Mode.
const (
	nameTSO        = "tso"
	nameUSO        = "uso"
	nameUDPSegment = "udp-segment"
	nameUDPGRO     = "udp-gro"
)

// ParseOffloads returns the offloads of a flag's value: auto is all of them, off none, else a list of tso, uso, udp-segment and
// udp-gro separated by commas.
func ParseOffloads(list string) (Offloads, error) {
	switch list {
	case "auto":
		return AllOffloads, nil
	case "off":
		return Offloads{}, nil
	}
	var o Offloads
	for name := range strings.SplitSeq(list, ",") {
		switch strings.TrimSpace(name) {
		case nameTSO:
			o.TSO = true
		case nameUSO:
			o.USO = true
		case nameUDPSegment:
			o.UDPSegment = true
		case nameUDPGRO:
			o.UDPGRO = true
		default:
			return Offloads{}, fmt.Errorf("offload %q: want auto, off, or a list of %s, %s, %s, %s",
				name, nameTSO, nameUSO, nameUDPSegment, nameUDPGRO)
		}
	}
	return o, nil
}

// String returns what ParseOffloads takes.
func (o Offloads) String() string {
	switch o {
	case AllOffloads:
		return "auto"
	case Offloads{}:
		return "off"
	}
	var names []string
	for _, offload := range []struct {
		name string
		on   bool
	}{{nameTSO, o.TSO}, {nameUSO, o.USO}, {nameUDPSegment, o.UDPSegment}, {nameUDPGRO, o.UDPGRO}} {
		if offload.on {
			names = append(names, offload.name)
		}
	}
	return strings.Join(names, ",")
}

// A Mode says whether an offload is in use.
type Mode struct {
	// Offload is its name as ParseOffloads takes it.
	Offload string
	On      bool
	// Why says why it is off.
	Why string
}

// Modes says which offloads are in use now. It may be called at any time.
func (t *Tunnel) Modes() []Mode {
	return append(t.device.Modes(), t.lanes[0].conn.load().Modes()...)
}

// Reasons of a Mode.
const (
	offByConfig = "switched off by the configuration"
	offByKernel = "not supported by this kernel"
)

// A modeSwitch is one offload of a device or of a group of sockets. An offload that the kernel turns out not to do is switched
// off for good; the packet paths look at it before each use.
type modeSwitch struct {
	name string
	why  atomic.Pointer[string] // why it is off, nil: on
	log  *slog.Logger
}

func newModeSwitch(name string, on bool, log *slog.Logger) *modeSwitch {
	s := &modeSwitch{name: name, log: log}
	if !on {
		s.why.Store(new(offByConfig))
	}
	return s
}

func (s *modeSwitch) on() bool { return s.why.Load() == nil }

// turnOff switches an offload off for what the kernel said about it, and logs that, once in its life.
func (s *modeSwitch) turnOff(why string) {
	if s.why.CompareAndSwap(nil, &why) {
		s.log.Warn("offload switched off", "offload", s.name, "why", why)
	}
}

func (s *modeSwitch) mode() Mode {
	if why := s.why.Load(); why != nil {
		return Mode{Offload: s.name, Why: *why}
	}
	return Mode{Offload: s.name, On: true}
}

// brokenWhy is the reason of an offload that the kernel refused while it took the same packets one by one.
func brokenWhy(err error) string {
	return fmt.Sprintf("the kernel refused it (%v) and took the same packets one by one", err)
}
