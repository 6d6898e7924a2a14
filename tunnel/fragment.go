package tunnel

import "encoding/binary"

// A packet without DF that is larger than the path to its peer takes is cut into fragments here, by RFC 791 section 3.2, and the pod at
// the other end puts them together. The outer packets are never fragmented: see setSending.

// flagMF says that more fragments follow.
const flagMF = 0x2000

// fragments are the fragments of a packet. They share its data; each has a header of its own.
type fragments struct {
	header []byte // of the packet; that of the later fragments, once the first is made
	head   []byte // data in Packet.Head that is still to be sent
	tail   []byte // data behind it
	max    int    // data in each fragment but the last, a multiple of 8
	offset int    // of the next one's data, in units of 8 bytes
	more   bool   // the packet is itself a fragment, and not the last
}

// newFragments returns the fragments of p, none of them longer than limit. p is whole, and larger than limit.
func newFragments(p *Packet, limit int) fragments {
	headerLen := headerLength(p.Head)
	field := binary.BigEndian.Uint16(p.Head[offFragment:])
	return fragments{
		header: p.Head[:headerLen],
		head:   p.Head[headerLen:],
		tail:   p.Tail,
		max:    (limit - headerLen) &^ 7,
		offset: int(field & fragmentOffsetMask),
		more:   field&flagMF != 0,
	}
}

// next returns the next fragment, with its header in arena, which has room for maxHeadersLen; false if there is none.
func (f *fragments) next(arena []byte) (Packet, bool) {
	if len(f.head) == 0 {
		f.head, f.tail = f.tail, nil
	}
	if len(f.head) == 0 {
		return Packet{}, false
	}
	header := arena[:copy(arena, f.header)]
	p := Packet{Head: header}
	n := min(f.max, len(f.head)+len(f.tail))
	switch {
	case n <= len(f.head):
		p.Tail, f.head = f.head[:n], f.head[n:]
	case len(header)+len(f.head) <= len(arena):
		p.Head = arena[:len(header)+copy(arena[len(header):], f.head)]
		n -= len(f.head)
		p.Tail, f.head, f.tail = f.tail[:n], nil, f.tail[n:]
	default:
		n = len(f.head) &^ 7
		p.Tail, f.head = f.head[:n], f.head[n:]
	}
	f.finish(header, p.Len())
	return p, true
}

// finish writes what differs between the fragments into the header of one, and prepares the next.
func (f *fragments) finish(header []byte, length int) {
	field := uint16(f.offset)
	if f.more || len(f.head)+len(f.tail) > 0 {
		field |= flagMF
	}
	binary.BigEndian.PutUint16(header[offTotalLength:], uint16(length))
	binary.BigEndian.PutUint16(header[offFragment:], field)
	clear(header[offChecksum : offChecksum+2])
	binary.BigEndian.PutUint16(header[offChecksum:], checksum(header))
	f.offset += (length - len(header)) / 8
	blankOptions(f.header)
}

// IP options, RFC 791 section 3.1.
const (
	optionEnd    = 0
	optionNone   = 1
	optionCopied = 0x80 // flag: the option is in every fragment
)

// blankOptions replaces the options that only the first fragment has by those that say nothing, so that the header keeps its length.
func blankOptions(header []byte) {
	options := header[minHeaderLen:]
	for len(options) > 0 && options[0] != optionEnd {
		length := 1
		if options[0] != optionNone {
			if len(options) < 2 || int(options[1]) < 2 || int(options[1]) > len(options) {
				return
			}
			length = int(options[1])
		}
		if options[0]&optionCopied == 0 {
			for i := range length {
				options[i] = optionNone
			}
		}
		options = options[length:]
	}
}
