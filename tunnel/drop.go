package tunnel

import (
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"
)

// A DropReason says why a packet was dropped. Its String is stable: it is the name of a metric's label.
type DropReason uint8

const (
	// kept is the reason of a packet that is not dropped.
	kept DropReason = 0
	// consumed is the reason of a control datagram that the tunnel takes for itself.
	consumed = numDropReasons
)

const (
	// Either direction.

	DropNoTable   DropReason = iota + 1 // the table is empty: not ready, or fenced
	DropBadHeader                       // no IPv4 header, or one that its packet contradicts
	DropIPv6                            // IPv6: the kernel's own router solicitations on any interface that is up
	DropMartian                         // source that no packet can have: broadcast, loopback, and inbound our own
	DropMulticast                       // destination is multicast or broadcast; that of a subnet unless Config.DirectedBroadcast

	// Outbound.

	DropBadOffload      // the kernel's virtio_net_hdr contradicts the packet
	DropForeignSource   // source is neither in our subnet nor an address of this host
	DropOwnSubnet       // destination is in our own subnet: a routing loop
	DropLoop            // destination is a peer's endpoint: its route leads into the tunnel that goes there
	DropNoPeer          // no peer holds the destination
	DropTTLExpired      // TTL used up
	DropTooBig          // larger than the path to the peer takes, and with DF
	DropSendTooBig      // larger than the underlay's MTU, which was not known yet
	DropSendUnreachable // the underlay has no route to the peer's endpoint
	DropSendForbidden   // a firewall rule on this host's output
	DropSendNoBuffers   // the kernel is short of memory; of a full queue of the interface it does not tell, send(2)
	DropSendFailed      // any other error of the socket

	// Inbound.

	DropTruncated       // datagram longer than an IP packet can be
	DropControl         // control datagram that this version does not understand
	DropUnknownEndpoint // outer source is not the endpoint of a lease
	DropSpoofedSource   // inner source is not in a lease of the endpoint
	DropControlLimit    // more control datagrams than are answered
	DropNotForUs        // inner destination is not in our subnet
	DropECN             // marked as congested, but its transport would not heed that (RFC 6040)
	DropDeviceDown      // the TUN device is down
	DropWriteFailed     // any other error of the TUN device

	numDropReasons
)

var dropReasonNames = [numDropReasons]string{
	DropNoTable:         "no-table",
	DropBadHeader:       "bad-header",
	DropIPv6:            "ipv6",
	DropMartian:         "martian",
	DropMulticast:       "multicast",
	DropBadOffload:      "bad-offload",
	DropForeignSource:   "foreign-source",
	DropOwnSubnet:       "own-subnet",
	DropLoop:            "loop",
	DropNoPeer:          "no-peer",
	DropTTLExpired:      "ttl-expired",
	DropTooBig:          "too-big",
	DropSendTooBig:      "send-too-big",
	DropSendUnreachable: "send-unreachable",
	DropSendForbidden:   "send-forbidden",
	DropSendNoBuffers:   "send-no-buffers",
	DropSendFailed:      "send-failed",
	DropTruncated:       "truncated",
	DropControl:         "control",
	DropUnknownEndpoint: "unknown-endpoint",
	DropSpoofedSource:   "spoofed-source",
	DropControlLimit:    "control-limit",
	DropNotForUs:        "not-for-us",
	DropECN:             "ecn",
	DropDeviceDown:      "device-down",
	DropWriteFailed:     "write-failed",
}

func (r DropReason) String() string {
	if r > kept && r < numDropReasons {
		return dropReasonNames[r]
	}
	return fmt.Sprintf("DropReason(%d)", uint8(r))
}

// Directions says in which directions packets are dropped for r.
func (r DropReason) Directions() (outbound, inbound bool) {
	return r < DropTruncated, r < DropBadOffload || r >= DropTruncated
}

// DropReasons yields every reason, in the order in which a packet meets them.
func DropReasons() iter.Seq[DropReason] {
	return func(yield func(DropReason) bool) {
		for r := kept + 1; r < numDropReasons; r++ {
			if !yield(r) {
				return
			}
		}
	}
}

// sendDropReason sorts the errors of sendmsg(2) and udp(7).
func sendDropReason(err error) DropReason {
	switch {
	case errors.Is(err, unix.EMSGSIZE):
		return DropSendTooBig
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETDOWN):
		return DropSendUnreachable
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return DropSendForbidden
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		return DropSendNoBuffers
	default:
		return DropSendFailed
	}
}

// writeDropReason sorts the errors of a write to a TUN device.
func writeDropReason(err error) DropReason {
	if errors.Is(err, unix.EIO) {
		return DropDeviceDown
	}
	return DropWriteFailed
}
