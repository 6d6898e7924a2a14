package tunnel

// The TCP header, RFC 9293 section 3.1.
const (
	protocolTCP = 6

	minTCPHeaderLen = 20 // without options
	offTCPSequence  = 4
	offTCPAck       = 8
	offTCPData      = 12 // high nibble: header length in 32-bit words; low: reserved bits, and AE of RFC 9768
	offTCPFlags     = 13
	offTCPWindow    = 14
	offTCPChecksum  = 16

	tcpFIN = 1 << 0
	tcpPSH = 1 << 3
	tcpACK = 1 << 4
	tcpCWR = 1 << 7
)

// The UDP header, RFC 768.
const (
	protocolUDP = 17

	udpHeaderLen   = 8
	offUDPLength   = 4
	offUDPChecksum = 6
)

// maxHeadersLen is that of an IPv4 and a TCP header, each with all options.
const maxHeadersLen = 60 + 60

func tcpHeaderLength(tcp []byte) int { return int(tcp[offTCPData]>>4) * 4 }

// udpChecksum returns a computed checksum as UDP sends it. Zero would say that there is none, and has another form, all ones.
func udpChecksum(sum uint16) uint16 {
	if sum == 0 {
		return 0xffff
	}
	return sum
}
